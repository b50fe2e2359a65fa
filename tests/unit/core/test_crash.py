# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that panic or power themselves off, and what on_crash and on_poweroff make of it, on a simulated group."""

from __future__ import annotations

import pytest
from plover.core import operator_calls
from plover.core.crash import MARK, STOPPED, WHY, panicked_in
from plover.core.restarts import RESTARTS_MAX, RESTARTS_S, Restarts
from plover.ports import effects

from tests.sim.rig import Rig, protected

pytestmark = pytest.mark.usefixtures("small_pages")
LIMIT_S = 3.0
MOMENTS_MS = [0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 100]
ENDS = [("on_crash", True), ("on_poweroff", False)]  # the setting, and whether its guest panics


def ends(seat, panics: bool = True, all_know: bool = True) -> None:
    seat.call(seat.vm.ends(panics), all_know)


def restarts(group) -> list[str]:
    return [h.why for name in ("primary", "secondary") for h in group[name].history if h.facts.get("what") == "restarted"]


def is_off(group) -> bool:
    seats = [group["primary"], group["secondary"]]
    return all(seat.qemu is None and seat.consensus.record.off and seat.status()["service"] == "off" for seat in seats)


@pytest.mark.parametrize("setting, panics", ENDS)
def test_the_guest_boots_again_and_stays_protected(setting, panics):
    group = protected(**{setting: "restart"})
    group.write(3)
    ends(group["primary"], panics)
    assert group.write(4) is group["primary"]
    group.run(1.0)
    (why,) = restarts(group)
    assert setting in why and group.protected() and group["primary"].views()[-1][0] == 1
    assert "off" not in group["primary"].modes() + group["secondary"].modes()
    assert group["primary"].status()["guest"]["panicked_s"] is None
    group.kill("primary")
    assert group.write(5) is group["secondary"] and group["secondary"].has(3, 4)
    assert len(restarts(group)) == 1


@pytest.mark.parametrize("setting, panics", ENDS)
@pytest.mark.parametrize("after_ms", MOMENTS_MS)
def test_the_leader_dies_on_the_way(setting, panics, after_ms):
    """In the middle of a syncvm, which may bring the guest as it ended: whoever leads then resets it."""
    group = protected(**{setting: "restart"})
    group.write(3)
    group.send(4)
    group.run(after_ms / 1000)
    ends(group["primary"], panics)
    group.run(after_ms / 2000)
    group.kill("primary")
    group.until(group.serving, LIMIT_S)
    secondary = group["secondary"]
    assert group.write(9) is secondary and secondary.has(3)


@pytest.mark.parametrize("setting, panics", ENDS)
@pytest.mark.parametrize("after_ms", MOMENTS_MS)
def test_the_secondary_dies_on_the_way(setting, panics, after_ms):
    group = protected(**{setting: "restart"})
    group.send(4)
    group.run(after_ms / 1000)
    ends(group["primary"], panics)
    group.run(after_ms / 2000)
    group.kill("secondary")
    assert group.write(9) is group["primary"]
    group.restart("secondary")
    group.until(group.protected, 20.0)


@pytest.mark.parametrize("setting, panics", ENDS)
@pytest.mark.parametrize("ms", range(0, 180, 18))
def test_in_each_moment_of_a_fill(setting, panics, ms):
    group = Rig(**{setting: "restart"})
    group.until(group.serving)
    group.run(ms / 1000)
    ends(group["primary"], panics)
    assert group.write(9) is group["primary"]
    group.until(group.protected, 20.0)
    assert len(restarts(group)) == 1


def test_a_leader_with_a_panicked_guest_dies_after_a_syncvm():
    """The guest that the secondary has loaded panics no more, so nobody tells."""
    group = protected(on_crash="keep")
    group.write(3)
    ends(group["primary"])
    group.run(2.5)
    secondary = group["secondary"]
    assert secondary.vm.panicked and secondary.core.role.panicked
    group.kill("primary")
    group.until(group.serving, LIMIT_S)
    assert "has panicked (on_crash is keep)" in secondary.status()["sentence"]
    group.buttons = True
    assert secondary.core.leading.power.crash.since is not None
    assert operator_calls.press(secondary.core.leading, effects.ResetGuest()) is None
    secondary.member.run()
    assert secondary.status()["guest"]["panicked_s"] is None
    assert group.write(9) is secondary


def test_by_default_nobody_does_anything():
    group = protected()
    ends(group["primary"])
    group.run(3.0)
    assert restarts(group) == [] and group["primary"].vm.panicked


def test_kept_is_told_everywhere():
    group = protected(on_crash="keep")
    ends(group["primary"])
    group.run(3.0)
    status = group["primary"].status()
    assert status["service"] == "protected" and f"{WHY} (on_crash is keep)" in status["sentence"]
    assert status["guest"] == {"panicked_s": pytest.approx(3.0, abs=0.1), "follows": "on_crash is keep"}
    assert [h.why for h in group["primary"].history if h.kind == "guest"] == [f"{WHY}; on_crash is keep"]
    group["primary"].call("guest_reset")
    assert group["primary"].status()["guest"]["panicked_s"] is None


def test_a_guest_that_resets_itself_is_not_reset_again():
    group = protected(on_crash="restart")
    group.send(4)
    group.until(lambda: group["primary"].core.leading.syncvm)
    ends(group["primary"])
    assert restarts(group) == []  # not in the middle of a syncvm
    group["primary"].vm.reset()
    group["primary"].call("guest_reset")
    group.run(1.0)
    assert restarts(group) == [] and group.write(9) is group["primary"]


@pytest.mark.parametrize("setting", ["on_crash", "on_poweroff"])
def test_a_secondarys_guest_that_ends_alone_is_mended(setting):
    group = protected(**{setting: "restart"})
    secondary = group["secondary"]
    ends(secondary, setting == "on_crash")
    group.write(5)
    group.until(lambda: not (secondary.core.role.panicked or secondary.core.role.guest_off), LIMIT_S)
    group.kill("primary")
    assert group.write(6) is secondary and restarts(group) == []


@pytest.mark.parametrize("setting", ["on_crash", "on_poweroff"])
def test_a_secondarys_guest_that_has_ended_alone_takes_over(setting):
    group = protected(**{setting: "restart"})
    ends(group["secondary"], setting == "on_crash")
    group.kill("primary")
    assert group.write(6) is group["secondary"] and len(restarts(group)) == 1


@pytest.mark.parametrize("panics", [True, False])
def test_a_guest_that_ends_at_each_boot_is_left_alone(panics):
    group = protected(on_crash="restart", on_poweroff="restart")
    primary = group["primary"]
    for _n in range(RESTARTS_MAX):
        ends(primary, panics)
        group.until(lambda: not (primary.vm.panicked or primary.vm.off) and primary.vm.running, LIMIT_S)
    assert len(restarts(group)) == RESTARTS_MAX
    ends(primary, panics)
    group.run(3.0)
    assert len(restarts(group)) == RESTARTS_MAX
    if panics:
        assert "kept as it is, as it was started again 5 times in the last 10 minutes" in primary.status()["sentence"]
    else:
        assert is_off(group) and any("stays off, as it was started again 5 times" in text for text in primary.reports)


def test_restarts_count_within_their_time_only():
    counted = Restarts()
    for n in range(RESTARTS_MAX):
        assert counted.allowed(float(n))
        counted.note(float(n))
    assert not counted.allowed(RESTARTS_S - 1) and counted.allowed(RESTARTS_S)


def test_stop_is_recorded_by_a_quorum():
    group = protected(on_crash="stop")
    group.write(3)
    ends(group["primary"])
    group.until(lambda: is_off(group), LIMIT_S)
    group.run(3.0)
    assert is_off(group) and STOPPED in group["primary"].reports and restarts(group) == []
    assert group["secondary"].status()["sentence"].startswith("the guest has powered the VM off, or has panicked; 'ploverctl start'")
    assert group["secondary"].cold_start() is None
    group.until(group.protected, 20.0)


@pytest.mark.parametrize("after_ms", MOMENTS_MS)
def test_the_leader_dies_while_a_panicked_guest_is_stopped(after_ms):
    """Its secondary has loaded the panicked guest, or had not: then it serves."""
    group = protected(on_crash="stop", on_poweroff="restart")
    group.send(4)
    group.run(0.004)
    ends(group["primary"])
    group.run(after_ms / 1000)
    group.kill("primary")
    group.run(3.0)
    secondary = group["secondary"]
    off = secondary.qemu is None and secondary.consensus.record.off
    assert off or (group.serving() is secondary and not secondary.vm.panicked)


def test_stop_waits_for_a_member_of_an_earlier_version():
    group = protected(on_crash="stop")
    ends(group["primary"], all_know=False)
    group.run(8.0)
    assert group.protected() and not group["primary"].consensus.record.off
    group["primary"].call("guest_panicked", True)
    group.until(lambda: is_off(group), LIMIT_S)


def test_qemu_marks_the_cpu_of_a_guest_that_has_panicked():
    state = b"\x04\x00\x00\x00\x04\ncpu_common" + bytes(16) + b"\x05\x19" + MARK + b"\x00\x00\x00\x01\x01~"
    assert panicked_in(state) and not panicked_in(state.replace(MARK, b""))
