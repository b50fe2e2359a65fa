# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of phases: whole, drawn in docs/syncvm.md, and enforced while they are gone through."""

from __future__ import annotations

import sys

import pytest
from plover.errors import InvariantViolation, WireError
from plover.protocol import wire
from plover.syncvm import phases
from plover.syncvm.initial_sync import LeaderInitialSync, SecondaryInitialSync
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.phase_machine import PhaseMachine
from plover.syncvm.secondary import SecondarySyncvm

from lab.paths import ROOT
from tests.sim.guest import SimMemory

sys.path.insert(0, str(ROOT / "tools"))

import draw_phases

TABLES = {
    "syncvm-leader": (phases.LEADER, phases.LeaderPhase, phases.LeaderEvent),
    "syncvm-secondary": (phases.SECONDARY, phases.SecondaryPhase, phases.SecondaryEvent),
    "initial-sync-leader": (phases.LEADER_SYNC, phases.LeaderSyncPhase, phases.LeaderSyncEvent),
    "initial-sync-secondary": (phases.SECONDARY_SYNC, phases.SecondarySyncPhase, phases.SecondarySyncEvent),
}
each_table = pytest.mark.parametrize("table, all_phases, events", TABLES.values(), ids=TABLES)


@each_table
def test_every_phase_is_reached_and_every_event_has_its_place(table, all_phases, events):
    assert list(table) == list(all_phases)
    reached = {next(iter(table))}
    for _round in table:
        reached |= {after for phase in reached for after in table[phase].values()}
    assert reached == set(all_phases)
    assert {event for after in table.values() for event in after} == set(events)
    last = [phase for phase, after in table.items() if not set(after.values()) - {phase}]
    assert last == [list(all_phases)[-1]]


@each_table
def test_what_the_table_does_not_allow_is_refused_and_the_phase_stays(table, all_phases, events):
    """By whose fault it is: a message of the peer's costs its link, an answer of our own host's ends the daemon."""
    for phase in all_phases:
        for event in events:
            machine = PhaseMachine(table, phase, "syncvm 7")
            if event in table[phase]:
                machine.happened(event)
                assert machine.phase is table[phase][event]
                continue
            with pytest.raises(WireError if event.by_peer else InvariantViolation) as raised:
                machine.happened(event)
            assert str(raised.value) == f"{event.text} in phase {phase.value} of syncvm 7" and machine.phase is phase


@each_table
def test_messages_are_called_as_they_are_on_the_wire(table, all_phases, events):
    named = {event.text.split(" (")[0] for event in events if event.by_peer}
    assert all(issubclass(getattr(wire, name), wire.Message) for name in named)


def test_the_document_shows_the_tables_as_they_are():
    text = draw_phases.DOCUMENT.read_text(encoding="utf-8")
    assert draw_phases.updated(text) == text, "run: python3 tools/draw_phases.py"
    assert "◀ Resend ─▶ stage" in text


OUR_FAULT = {
    "leader-drained": lambda: LeaderSyncvm(1, 1, 0, SimMemory()).drained(0.0),
    "leader-stopped": lambda: LeaderSyncvm(1, 1, 0, SimMemory()).vm_stopped(),
    "leader-saved": lambda: LeaderSyncvm(1, 1, 0, SimMemory()).device_saved(b""),
    "leader-packed": lambda: LeaderSyncvm(1, 1, 0, SimMemory()).packed([]),
    "secondary-stopped": lambda: SecondarySyncvm(1, 1, SimMemory()).vm_stopped(),
    "secondary-blocks": lambda: SecondarySyncvm(1, 1, SimMemory()).blocks_hashed([]),
    "secondary-loaded": lambda: SecondarySyncvm(1, 1, SimMemory()).loaded(),
    "initial-stopped": lambda: LeaderInitialSync(1, 1, SimMemory()).vm_stopped(1),
    "initial-captured": lambda: LeaderInitialSync(1, 1, SimMemory()).stream_captured(),
    "initial-loaded": lambda: SecondaryInitialSync(1, 1, SimMemory()).colo_ready(),
}


@pytest.mark.parametrize("call", OUR_FAULT.values(), ids=OUR_FAULT)
def test_an_answer_out_of_place_breaks_an_invariant(call):
    with pytest.raises(InvariantViolation, match="in phase"):
        call()


def test_an_answer_for_a_copy_of_the_vm_that_is_gone_is_nobodys():
    """The leader chooses a syncvm's number and may choose one twice. Hashing for the first may end after the second began."""
    sides = [SecondarySyncvm(1, 1, SimMemory(), life=life) for life in (1.0, 2.0)]
    syncs = [SecondaryInitialSync(1, 1, SimMemory(), life=life) for life in (1.0, 2.0)]
    assert sides[0].tag != sides[1].tag and syncs[0].tag != syncs[1].tag
