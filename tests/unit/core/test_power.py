# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest powers itself off: recorded by a quorum, on both hosts, never a failover; and it starts again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from plover.core.power import PATIENCE_S, WHY
from plover.core.status import service_of
from plover.errors import WireError
from plover.protocol import wire

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")
MEMBERS = ("primary", "secondary", "witness")
LIMIT_S = 3.0


@pytest.fixture
def group():
    return protected()


def goes_off(seat, all_know: bool = True) -> None:
    """QEMU has stopped the VM of a guest that powered itself off."""
    seat.vm.running, seat.vm.stopped_as = False, seat.vm.digest()
    seat.call("guest_off", all_know)


def is_off(group, *names: str) -> bool:
    """By these members. One that was away when it was recorded learns it when the VM starts, and until then takes it to be down."""
    seats = [group[name] for name in names or ("primary", "secondary")]
    return all(seat.qemu is None and seat.consensus.record.off and seat.status()["service"] == "off" for seat in seats)


def failovers(group) -> list:
    return [view for name in ("primary", "secondary") for view in group[name].views() if view[2] == "failover"]


def start(seat) -> str | None:
    return seat.cold_start()


def test_it_is_off_on_both_hosts_and_no_failover(group):
    group.write(3)
    goes_off(group["primary"])
    group.until(lambda: is_off(group), LIMIT_S)
    group.run(5.0)
    assert is_off(group) and failovers(group) == [] and group["secondary"].modes()[-1] == "off"
    assert group["secondary"].consensus.record.in_sync == {"primary", "secondary"}
    assert WHY in group["primary"].reports
    status = group["secondary"].status()
    assert status["sentence"] == "the guest has powered the VM off; 'ploverctl start' on primary or secondary boots it"


def test_all_output_of_a_guest_that_goes_off_leaves(group):
    primary = group["primary"]
    group.write(3)
    primary.member.client_frame(group.frame(4))
    group.until(lambda: primary.has(4))
    goes_off(primary)
    group.until(lambda: is_off(group), LIMIT_S)
    assert 4 in primary.released


@pytest.mark.parametrize("where", ["primary", "secondary"])
def test_it_starts_again_on_either_host_and_is_protected(group, where):
    goes_off(group["primary"])
    group.until(lambda: is_off(group), LIMIT_S)
    group.run(1.0)
    assert start(group[where]) is None
    group.until(group.protected, 20.0)
    assert group.serving() is group[where] and not group[where].consensus.record.off
    group.write(7)
    assert not any(group[name].consensus.record.off for name in MEMBERS)


def test_it_stays_off_when_daemons_and_hosts_come_back(group):
    goes_off(group["primary"])
    group.until(lambda: is_off(group), LIMIT_S)
    for name in MEMBERS:
        group.kill(name)
    for name in MEMBERS:
        group.restart(name)
    group.run(5.0)
    assert is_off(group) and failovers(group) == []
    assert start(group["secondary"]) is None
    group.until(group.protected, 20.0)


def test_a_vm_without_a_secondary_goes_off_and_starts_where_its_disks_are(group):
    group.kill("secondary")
    group.until(lambda: group["primary"].status()["service"] == "degraded", LIMIT_S)
    goes_off(group["primary"])
    group.until(lambda: group["primary"].qemu is None and group["primary"].consensus.record.off, LIMIT_S)
    group.restart("secondary")
    start(group["secondary"])  # it does not know better, but nobody votes for it
    group.run(3.0)
    assert group.serving() is None and is_off(group, "primary")
    assert start(group["primary"]) is None
    group.until(group.protected, 20.0)
    assert group.serving() is group["primary"]


def test_without_the_witness_both_replicas_record_it(group):
    group.kill("witness")
    group.run(0.5)
    goes_off(group["primary"])
    group.until(lambda: is_off(group), LIMIT_S)


@pytest.mark.parametrize("after_ms", [0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 100])
def test_the_leader_dies_on_the_way(group, after_ms):
    """Either it is off, or the secondary's guest goes on; then it powers itself off, too."""
    group.write(3)
    goes_off(group["primary"])
    group.run(after_ms / 1000)
    group.kill("primary")
    group.run(3.0)
    secondary = group["secondary"]
    if secondary.core.leading:
        assert secondary.has(3)
        if not secondary.core.leading.power.off:
            goes_off(secondary)
    group.until(lambda: secondary.qemu is None and secondary.consensus.record.off, LIMIT_S)
    assert secondary.status()["service"] == "off"
    group.restart("primary")
    group.run(2.0)
    assert is_off(group, "secondary") and group.serving() is None
    assert "secondary" in secondary.consensus.record.in_sync and start(secondary) is None
    group.until(group.protected, 20.0)


@pytest.mark.parametrize("after_ms", [0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 100])
def test_the_secondary_dies_on_the_way(group, after_ms):
    goes_off(group["primary"])
    group.run(after_ms / 1000)
    group.kill("secondary")
    primary = group["primary"]
    group.until(lambda: primary.qemu is None and primary.consensus.record.off, LIMIT_S)
    group.restart("secondary")
    group.run(2.0)
    assert is_off(group, "primary") and failovers(group) == []
    assert "primary" in primary.consensus.record.in_sync and start(primary) is None
    group.until(group.protected, 20.0)


def test_the_secondarys_guest_is_quicker_and_then_takes_over(group):
    """It has powered itself off before the leader's; the leader dies. There is nothing that could run on."""
    secondary = group["secondary"]
    goes_off(secondary)
    group.kill("primary")
    group.until(lambda: secondary.consensus.record.off and secondary.qemu is None, LIMIT_S)
    assert secondary.status()["service"] == "off" and secondary.consensus.record.in_sync == {"secondary"}


def test_the_secondarys_guest_alone_goes_off_and_the_next_syncvm_has_it_run_on(group):
    secondary = group["secondary"]
    goes_off(secondary)
    assert secondary.core.role.guest_off
    group.write(5)
    group.until(lambda: not secondary.core.role.guest_off, LIMIT_S)
    group.kill("primary")
    group.until(lambda: group.serving() is secondary, LIMIT_S)
    assert secondary.has(5) and not secondary.consensus.record.off


def test_a_guest_that_goes_off_during_a_fill(group):
    group.kill("secondary")
    group.restart("secondary")
    group.until(lambda: group["primary"].core.leading.fill is not None, 10.0)
    goes_off(group["primary"])
    group.until(lambda: is_off(group), LIMIT_S)
    assert group["primary"].consensus.record.in_sync == {"primary"}


def test_a_switchover_that_was_asked_for_is_answered(group):
    answers: list = []
    group["primary"].call("switchover", answers.append)
    goes_off(group["primary"])
    group["primary"].call("switchover", answers.append)
    group.until(lambda: is_off(group), LIMIT_S)
    assert answers == [WHY, WHY]


def test_with_a_member_of_an_earlier_version_it_is_as_it_was(group):
    """It would take the record for a lie. The VM goes to the other host, whose guest ends as well."""
    goes_off(group["primary"], all_know=False)
    group.until(lambda: group.serving() is group["secondary"], PATIENCE_S + LIMIT_S)
    assert not group["secondary"].consensus.record.off


def test_who_takes_over_a_guest_that_is_off_does_not_record_it_for_a_member_of_an_earlier_version(group):
    secondary = group["secondary"]
    goes_off(secondary, all_know=False)
    group.kill("primary")
    group.until(lambda: secondary.core.leading is not None, LIMIT_S)
    group.run(PATIENCE_S + 1.0)
    assert secondary.qemu is None and not secondary.consensus.record.off and secondary.status()["service"] == "down"


def test_a_member_may_tell_a_moment_later_what_it_knows(group):
    goes_off(group["primary"], all_know=False)
    group.run(1.0)
    group["primary"].call("guest_off", True)
    group.until(lambda: is_off(group), LIMIT_S)


def test_a_vm_that_was_never_booted_is_not_off(group):
    with pytest.raises(WireError, match="never booted"):
        group["witness"].consensus.group.record_of(wire.ProposeRecord(5, 0, 0, 0b1001))
    with pytest.raises(WireError, match="do not exist"):
        group["witness"].consensus.group.record_of(wire.ProposeRecord(5, 1, 1, 0b10001))


@pytest.mark.parametrize("heard", [True, False])
def test_a_vm_that_is_off_is_not_protected_for_who_hears_the_one_that_boots_it(heard):
    """Until that one has recorded itself, the record names both hosts."""
    record = SimpleNamespace(off=True, in_sync=frozenset({"primary", "secondary"}))
    assert service_of(SimpleNamespace(leader="primary", record=record), heard) == "off"
