# SPDX-License-Identifier: GPL-3.0-or-later
"""An error's text quotes what others sent: it fits into one line of a log, and harms no terminal."""

from __future__ import annotations

import pytest
from plover.errors import LINE_MAX, ConfigError, QemuError


@pytest.mark.parametrize("quoted", ["\x1b[2J\x07", "a\nERROR forged", "\x00" * 100_000, "x" * 100_000])
def test_an_error_quotes_no_more_than_a_line(quoted):
    text = str(QemuError(f"QMP stop: {quoted}"))
    assert text.isprintable() and len(text) <= LINE_MAX + 40 and text.startswith("QMP stop: ")


def test_a_text_that_is_cut_says_how_long_it_was():
    assert str(QemuError("x" * 5000)) == "x" * LINE_MAX + " ... (5000 characters)"


def test_each_problem_with_the_settings_has_its_line():
    assert str(ConfigError("a: \x1b\nb: " + "y" * 5000)) == "a: ?\nb: " + "y" * (LINE_MAX - 3) + " ... (5003 characters)"
