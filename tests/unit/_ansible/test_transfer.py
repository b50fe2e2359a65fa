# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads while an image is copied to a host."""

from __future__ import annotations

import pytest
from ansible_collections.plover.vmft.plugins.plugin_utils.transfer import progress

MIB = 1 << 20


@pytest.mark.parametrize(
    "done, total, seconds, said",
    [
        (0, 100 * MIB, 5, "0 of 100 MiB"),
        (10 * MIB, 100 * MIB, 0, "10 of 100 MiB"),
        (25 * MIB, 100 * MIB, 5, "25 of 100 MiB, 5 MiB/s, 15 s left"),
        (100 * MIB, 100 * MIB, 20, "100 of 100 MiB, 5 MiB/s, 0 s left"),
        (101 * MIB, 100 * MIB, 20, "101 of 100 MiB, 5 MiB/s, 0 s left"),
        (1, 2, 1, "0 of 0 MiB, 0 MiB/s, 1 s left"),
    ],
)
def test_it_says_how_much_how_fast_and_how_long(done, total, seconds, said):
    assert progress(done, total, seconds) == said
