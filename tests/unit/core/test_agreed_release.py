# SPDX-License-Identifier: GPL-3.0-or-later
"""output_release agreed, in a group: what both VMs have said leaves without a syncvm; everything else waits for one."""

from __future__ import annotations

import pytest
from plover.errors import InvariantViolation, WireError
from plover.protocol import sayings, wire

from tests.sim import speech
from tests.sim.rig import Rig, protected

pytestmark = pytest.mark.usefixtures("small_pages")

SETTINGS = {"output_release": "agreed", "syncvm_interval_ms_max": 60_000}
FIRST, SECOND, THIRD = 5, 6, 7


def connected(**more) -> Rig:
    """A client's first write is answered, and no syncvm is under way."""
    group = protected(**{**SETTINGS, **more})
    group.write(FIRST)
    return group.until(lambda: not group["primary"].core.leading.syncvm and output(group)["agreed_on"])


def output(group, name="primary"):
    return group[name].core.leading.output_commit.agreed.describe()


def syncvms(group):
    return group["primary"].core.totals["syncvms"]


def test_the_begin_of_a_connection_waits_for_a_syncvm_and_its_next_answer_does_not():
    group = connected()
    primary, before = group["primary"], syncvms(group)
    group.write(THIRD)
    group.until(lambda: not primary.core.leading.syncvm)
    assert output(group)["waits"] == {"connection": 1} and syncvms(group) == before + 1
    group.send_next(THIRD, 2, SECOND)
    group.until(lambda: SECOND in primary.released)
    assert syncvms(group) == before + 1 and not primary.core.leading.syncvm
    assert output(group)["agreed_frames"] == 1
    assert speech.operation_of(group["secondary"].memory.ram[9]) == 2, "its VM has said it"


def test_an_answer_that_the_secondary_does_not_report_waits_for_a_syncvm():
    group = connected()
    primary, before = group["primary"], syncvms(group)
    primary.hold(wire.Said)
    group.send_next(FIRST, 2, SECOND)
    group.until(lambda: SECOND in primary.released)
    assert syncvms(group) + bool(primary.core.leading.syncvm) == before + 1
    assert output(group)["waits"] == {"late": 1} and output(group)["agreed_frames"] == 0


def test_a_difference_makes_a_syncvm_due_at_once():
    group = connected(latency_ms_target=10_000)
    primary, before = group["primary"], syncvms(group)
    primary.qemu.computes = True  # it is never idle: nothing else makes a syncvm due for seconds
    group["secondary"].qemu.speech.stamp = lambda: 3 << speech.STAMP_SHIFT
    group.send_next(FIRST, 2, SECOND)
    group.until(lambda: SECOND in primary.released, 0.2)
    assert output(group)["differences"] == {"bytes": 1} and output(group)["agreed_frames"] == 0
    assert syncvms(group) + bool(primary.core.leading.syncvm) == before + 1


def test_a_failover_goes_on_with_all_that_was_agreed_on():
    group = connected()
    group.send_next(FIRST, 2, SECOND)
    group.until(lambda: SECOND in group["primary"].released)
    group.kill("primary")
    group.until(lambda: group.serving() is group["secondary"] and group.mac_at == "secondary")
    assert speech.words_of(group["secondary"].memory.ram[8]) == 1 << 31 | SECOND
    group.send_next(FIRST, 3, THIRD)
    group.until(lambda: THIRD in group["secondary"].released)


def test_what_the_vm_has_said_since_its_last_load_leaves_after_its_promotion():
    """Though the client does not ask again."""
    group = connected()
    group["primary"].hold(wire.Said)
    group.send_next(FIRST, 2, SECOND)
    group.until(lambda: group["secondary"].core.role.guard.bytes)
    assert SECOND not in group["primary"].released
    group.kill("primary")
    group.until(lambda: SECOND in group["secondary"].released)


def test_after_a_new_election_nothing_is_agreed_on_before_the_next_syncvm():
    group = connected()
    primary = group["primary"]
    primary.elect_anew()
    group.until(lambda: primary.core.leading and primary.core.leading.serving)
    if primary.core.leading.protected:
        assert not output(group)["agreed_on"]
    before = syncvms(group)
    group.until(group.protected)
    group.send_next(FIRST, 2, SECOND)
    group.until(lambda: SECOND in primary.released)
    assert syncvms(group) + bool(primary.core.leading.syncvm) > before and output(group)["agreed_frames"] == 0


def test_a_secondary_of_an_earlier_version_is_not_asked(monkeypatch):
    send = Rig.gets

    def gets(self, member, src, message, take):
        if isinstance(message, wire.Said):
            raise AssertionError("a message that an earlier version does not know")
        send(self, member, src, message, take)

    monkeypatch.setattr(Rig, "gets", gets)
    monkeypatch.setattr("plover.core.follower.SAYS", "something else")
    group = protected(**SETTINGS)
    group.write(FIRST)
    before = syncvms(group)
    group.send_next(FIRST, 2, SECOND)
    group.until(lambda: SECOND in group["primary"].released)
    assert syncvms(group) + bool(group["primary"].core.leading.syncvm) > before and not output(group)["agreed_on"]


SAYING = sayings.pack(sayings.Saying(sayings.SPAN, 0, 3, 1, 5, 6))


@pytest.mark.parametrize("ahead", [1, 100])
def test_a_report_of_a_syncvm_that_has_not_begun_is_refused(ahead):
    group = connected()
    primary = group["primary"]
    number = primary.core.figures.number + ahead
    with pytest.raises(WireError, match=f"since syncvm {number}"):
        primary.core.data(wire.Said(primary.consensus.view, number, SAYING))


def test_a_report_before_the_syncvm_is_staged_is_refused():
    group = connected()
    primary = group["primary"]
    primary.hold(wire.Staged)
    group.send(SECOND)
    group.until(lambda: primary.core.leading.syncvm and primary.core.leading.syncvm.all_sent)
    with pytest.raises(WireError, match="which it does not have"):
        primary.core.data(wire.Said(primary.consensus.view, primary.core.leading.syncvm.number, SAYING))


def test_reports_go_from_the_secondary_to_the_leader_on_the_data_channel_only():
    group = connected()
    report = wire.Said(group["primary"].consensus.view, group["primary"].core.figures.number, SAYING)
    with pytest.raises(WireError, match="told to a secondary"):
        group["secondary"].core.data(report)
    for name, src in (("primary", "witness"), ("primary", "secondary"), ("secondary", "primary")):
        with pytest.raises(WireError, match="no consensus message"):
            group[name].core.control(src, report)


@pytest.mark.parametrize("payload", [b"x", bytes(32), SAYING[:-1], SAYING + b"x"])
def test_a_malformed_report_is_refused(payload):
    group = connected()
    primary = group["primary"]
    with pytest.raises(WireError):
        primary.core.data(wire.Said(primary.consensus.view, primary.core.figures.number, payload))


def test_late_and_foreign_reports_are_passed_over():
    group = connected()
    primary = group["primary"]
    view, number = primary.consensus.view, primary.core.figures.number
    for report in (wire.Said(view, number - 1, SAYING), wire.Said(view - 1, number, SAYING), wire.Said(view + 1, number, SAYING)):
        primary.core.data(report)
    assert not primary.core.take()


def test_output_of_another_view_is_never_released_as_agreed_on():
    group = connected()
    agreed = group["primary"].core.leading.output_commit.agreed
    agreed._agreement.leaving = lambda: [1]
    with pytest.raises(InvariantViolation, match="was to leave in view 9"):
        agreed.leaving(9, group.now)
