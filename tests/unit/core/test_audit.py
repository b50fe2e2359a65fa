# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit: all of memory is compared, so that a write which was not tracked is found."""

from __future__ import annotations

import pytest

from tests.sim.rig import WRITE_PAGE, protected

pytestmark = pytest.mark.usefixtures("small_pages")


def test_audit_compares_everything():
    group = protected()
    group.write(3)
    answers = group["primary"].audit()
    group.until(lambda: answers)
    assert (answers[0].mismatching, answers[0].untracked) == (0, 0)


def test_audit_finds_a_write_that_was_not_tracked():
    group = protected()
    group["secondary"].memory.ram[WRITE_PAGE] = 12345
    answers = group["primary"].audit()
    group.until(lambda: answers)
    assert (answers[0].mismatching, answers[0].untracked) == (0, 1)


@pytest.mark.parametrize("asked", ["audit", "switchover"])
def test_who_waits_for_an_answer_is_told_that_qemu_is_gone(asked):
    group = protected()
    answers = getattr(group["primary"], asked)()
    group["primary"].qemu_dies()
    group.until(lambda: answers)
    assert isinstance(answers[0], str)
    group.until(lambda: group.serving() is group["secondary"])
