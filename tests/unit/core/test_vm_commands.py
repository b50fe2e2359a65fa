# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that QEMU refuses is asked again only where that is safe, and a stop undoes no other stop."""

from __future__ import annotations

import pytest
from plover.ports import effects

from tests.sim.rig import Rig, protected

pytestmark = pytest.mark.usefixtures("small_pages")


@pytest.mark.parametrize("phase", ["stop", "hash"])
def test_a_refused_command_is_not_asked_again_in_the_middle_of_a_syncvm(phase):
    """A VM that ran on there would change pages that are hashed already."""
    group = protected()
    leader = group["primary"].core.leading
    group.send(4)
    group.until(lambda: leader.syncvm is not None and leader.syncvm.phase == phase)
    leader._retry_at = group.now
    core = group["primary"].core
    core.tick()
    assert not [a for a in core.take() if isinstance(a, effects.ContVm)] and leader._retry_at is None


def test_a_refused_command_of_the_only_copy_is_asked_again():
    group = Rig()
    group.until(group.serving)
    group.kill("secondary")
    primary = group["primary"]
    group.run(1.0)
    primary.done.clear()
    primary.call("failed", ("cont",), "QMP: refused")
    group.run(0.5)
    assert not {"ContVm", "KillQemu"} & set(primary.done)
    group.run(1.0)
    assert primary.done.count("ContVm") == 1 and "KillQemu" not in primary.done and group.serving() is primary


def test_a_stop_that_was_given_up_does_not_undo_the_next_one():
    """Found in the lab: a stop that took long, a view that came and went, and memory copied while the VM ran."""
    core = protected()["primary"].core
    core.emit(effects.StopVm("first"), effects.StopVm("second"))
    core.take()
    core.answer("vm_stopped", "first")
    assert not any(isinstance(a, effects.ContVm) for a in core.take())
    core.answer("vm_stopped", "second")
    assert any(isinstance(a, effects.ContVm) for a in core.take())
    core.emit(effects.StopVm("third"), effects.ContVm())
    core.take()
    core.answer("vm_stopped", "third")
    assert not any(isinstance(a, effects.ContVm) for a in core.take())
