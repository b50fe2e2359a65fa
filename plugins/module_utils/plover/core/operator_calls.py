# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl switchover``, ``audit``, ``shutdown`` and ``reset``: the operator's commands to a leader. Pure.

The first two need one more syncvm, and answer when it is over. Commands to a host that does not lead are in cold_start.py and
force.py.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ports import effects
from ..syncvm.figures import Figures
from .leader import Leader


def not_leading(elsewhere: str | None) -> str:
    return f"this host does not lead; ask {elsewhere or 'the leader once there is one'}"


def switchover(leader: Leader, answer: Callable[[str | None], None]) -> None:
    """``answer(None)`` once another member leads, else ``answer(reason)``."""
    if leader.switchover.asked:
        answer("a switchover is under way")
    elif leader.power.off:
        answer(leader.power.why)
    elif not leader.protected:
        answer(f"not protected: {leader.reprotection.note}")
    else:
        leader.switchover.ask(answer)
        leader.maybe_syncvm()


def press(leader: Leader, button: effects.PressPower | effects.ResetGuest) -> str | None:
    """``ploverctl shutdown`` and ``ploverctl reset``. Returns the reason if that is refused."""
    if not leader.serving or leader.power.off:
        return "refused: the VM does not run; see 'ploverctl status'"
    leader.core.emit(button)
    if isinstance(button, effects.ResetGuest):
        leader.power.crash.guest_reset()
    return None


def audit(leader: Leader, answer: Callable[[Figures | str], None], disks: bool) -> None:
    """Compare all of memory; with ``disks`` the images too."""
    if not leader.protected:
        answer(f"not protected, there is nothing to compare: {leader.reprotection.note}")
    else:
        leader.audits.ask(answer, disks)
        leader.maybe_syncvm()
