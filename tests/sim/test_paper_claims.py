# SPDX-License-Identifier: GPL-3.0-or-later
"""One test per claim of the paper (NSDI 2018) on ordering, guard, idle detection and views, judged on what happens.

Claims on the syncvm are in test_paper_claims_syncvm.py, claims on failures in test_paper_claims_failures.py. Where Plover does
otherwise than the paper, the docstring says so.
"""

from __future__ import annotations

from dataclasses import fields

import pytest
from plover.consensus.consensus import Send
from plover.consensus.log import INPUT, SYNCVM, unpack
from plover.ports import effects
from plover.protocol import wire

from tests.sim.claims import each_seed, of_syncvm, protected, qemu, recorded
from tests.sim.kinds import OF_SYNCVMS
from tests.sim.network import LATENCY_S
from tests.sim.watch import DOES, GOT, Watched


# ---- total order --------------------------------------------------------------------------------------
@each_seed
def test_both_vms_consume_the_same_inputs_in_the_same_order_before_a_syncvm(seed):
    """§3, §4.4 step 1: consensus on the syncvm itself, so leader and secondary have consumed exactly the same prefix."""
    fed: dict[str, list[bytes]] = {"primary": [], "secondary": []}
    slots: dict[str, dict[int, list[bytes]]] = {"primary": {}, "secondary": {}}

    for seen in recorded(seed).seen:
        if isinstance(seen.thing, effects.Inject):
            fed[seen.who].append(seen.thing.payload)
        elif seen.how == DOES and of_syncvm(seen.thing):
            slots[seen.who][of_syncvm(seen.thing)], fed[seen.who] = fed[seen.who], []
    both = sorted(slots["primary"].keys() & slots["secondary"].keys())[1:]  # the first began before we looked
    assert len(both) > 10 and sum(len(slots["primary"][n]) for n in both) > 20
    for number in both:
        assert slots["primary"][number] == slots["secondary"][number], f"syncvm {number}"


def test_an_input_is_agreed_on_in_one_round_trip_to_the_faster_follower():
    """§5.3, §6.3: agreement on the order costs a few microseconds, next to nothing beside the VM's own work.

    Here in round trips: one until the leader's VM is fed, half of one until the secondary's is; no second round, no
    word between the followers, and no difference when the witness is gone.
    """
    round_trip_s = sum(LATENCY_S)
    for witness in (True, False):
        world = protected(steady=True)
        if not witness:
            world.power_loss("witness")
        world.run(0.5)
        proposed, fed, copied = {}, {}, {}
        for seen in world.seen:
            if isinstance(seen.thing, Send) and isinstance(seen.thing.message, wire.Append) and seen.thing.message.payload:
                for entry in unpack(seen.thing.message.payload):
                    proposed.setdefault(entry.payload, seen.at_s)
            elif isinstance(seen.thing, effects.Inject):
                (fed if seen.who == "primary" else copied).setdefault(seen.thing.payload, seen.at_s)
        waits = sorted(fed[p] - at for p, at in proposed.items() if p in fed)
        assert len(waits) > 30
        assert waits[0] == pytest.approx(round_trip_s) == pytest.approx(waits[len(waits) // 4])  # the rest met a stopped VM
        assert min(copied[p] - at for p, at in proposed.items() if p in copied) == pytest.approx(round_trip_s / 2)
        talk = {(s.src, s.who) for s in world.all(GOT, (wire.Append, wire.AppendAck))}
        assert talk <= {("primary", "secondary"), ("secondary", "primary"), ("primary", "witness"), ("witness", "primary")}


@each_seed
def test_the_witness_takes_inputs_and_syncvms_as_nothing_to_do(seed):
    """§3.2: to consensus the witness is one acceptor more; inputs and syncvms are no-ops there.

    Ours is no VM at all: it stores view, vote and record, and its log is cut at every syncvm like all others.
    """
    world = protected(seed).run(0.01)  # the last record is on its disk by then
    world.seen.clear()
    world.run(1.0)
    witness = world.members["witness"]
    kinds = {e.kind for s in world.all(GOT, wire.Append, "witness") for e in unpack(s.thing.payload)}
    assert kinds == {INPUT, SYNCVM} and witness.core is None
    assert {s.how for s in world.seen if s.who == "witness"} == {GOT}  # no action, and nothing written to its disk
    assert witness.consensus.commit_index > 30
    assert len(witness.consensus.log.after(0)) < 20


# ---- guard ------------------------------------------------------------------------------------------------
@each_seed
def test_output_leaves_at_the_leader_once_the_secondary_has_acknowledged_the_syncvm(seed):
    """§3.2, §4.3, §4.4 step 6: the leader buffers all output since the last syncvm and releases it on the ACK."""
    covered, frames = False, 0
    for seen in recorded(seed).seen:
        if seen.who != "primary":
            continue
        if isinstance(seen.thing, effects.StopVm):
            covered = False
        elif isinstance(seen.thing, wire.Staged):
            covered = True
        elif isinstance(seen.thing, effects.Emit) and seen.thing.chunks:
            assert covered, f"output left at {seen.at_s:.4f} before the syncvm was acknowledged"
            frames += len(seen.thing.chunks)
    assert frames > 30


@each_seed
def test_the_secondary_buffers_its_output_too_and_discards_it_at_the_syncvm(seed):
    """§4.3: the secondary's VM answers as well; nobody hears it."""
    world = protected(seed)
    secondary, held = world.members["secondary"], []

    def discarded(seen):
        if seen.how == GOT and isinstance(seen.thing, wire.StageEnd):  # in "stage" still: some pages are asked for again
            assert secondary.core.role.guard.bytes == 0 or secondary.core.role.syncvm.phase == "stage"

    world.before = lambda seen: isinstance(seen.thing, wire.StageEnd) and held.append(secondary.core.role.guard.bytes)
    world.after = discarded
    world.run(1.0)
    assert sum(map(bool, held)) > 10
    assert world.all(DOES, effects.Emit, "secondary") == [] and not secondary.tap_up
    assert sum(c.answered for c in world.clients) > 30


# ---- idle detection ----------------------------------------------------------------------------------------
def _busy(world: Watched) -> None:
    """The VMs are never idle, neither before a syncvm nor when they quiesce."""
    for name in ("primary", "secondary"):
        qemu(world, name).computes = True


@each_seed
def test_a_vm_that_is_never_idle_waits_a_bounded_time(seed):
    """§5.1: a bounded waiting time for liveness. Two bounds here: latency_ms_target, then syncvm_drain_ms_max."""
    world = protected(seed)
    _busy(world)
    primary, ages = world.members["primary"], []

    def look(seen):
        since = primary.core.role.guard.oldest_unmarked_s
        if seen.who == "primary" and since is not None:
            ages.append(1000 * (primary.host.clock() - since))

    world.before = look
    world.run(2.0)
    config = primary.config
    # At most one syncvm is under way; what comes during it waits for the next.
    tick_ms, syncvm_ms = 5, 40 if world.disks else 30  # with a disk the VM waits for the secondary's load
    assert max(ages) < config.latency_ms_target + config.syncvm_drain_ms_max + tick_ms + syncvm_ms
    assert max(ages) > config.latency_ms_target / 2
    assert all(c.answered > 3 for c in world.clients)


def test_an_idle_vm_is_synced_at_once():
    """§5.1: the syncvm comes when the service is idle, not at the end of a fixed slot as in Remus and MC."""
    latency = {}
    for busy in (False, True):
        world = protected(steady=True)
        if busy:
            _busy(world)
        world.run(1.5)
        ops = [op for c in world.clients for op in c.history if op.end is not None]
        latency[busy] = sum(op.end - op.start for op in ops) / len(ops)
    assert latency[False] < 0.6 * latency[True]


# ---- the view in every message -----------------------------------------------------------------------------
def test_every_message_carries_the_view():
    """§4.4: all messages carry vid. All but the greetings of a new connection, which come before there is any."""
    for cls in wire.Message.__subclasses__():
        if cls not in wire.GREETINGS:
            assert fields(cls)[0].name == "view" and cls.FMT.startswith("!Q"), cls.__name__


@each_seed
def test_messages_of_an_old_view_are_passed_over(seed):
    """§4.4, §4.5: whatever was said in view 1, said again in view 2, changes nothing and lets nothing out."""
    world = protected(seed).run(0.4)
    old = world.all(GOT, wire.Message)
    old += [
        s._replace(thing=cls(1), who=who, src=src)
        for cls in (wire.TransferLeadership, wire.Leave, wire.JoinRequest)
        for s in old[:1]
        for who, src in (("primary", "secondary"), ("secondary", "primary"))
    ]
    world.power_loss("primary")
    world.until(lambda: world.leader() is not None and world.leader().name == "secondary")
    world.power_on("primary")
    world.until(world.protected).run(0.05)
    assert len({type(s.thing) for s in old}) > 10 and all(s.thing.view == 1 for s in old)
    for seen in old:
        member = world.members[seen.who]
        before, emitted = _state(world), len(world.all(DOES, effects.Emit))
        if isinstance(seen.thing, OF_SYNCVMS):
            member.call("data", seen.thing)
        elif member.core:
            member.call("control", seen.src, seen.thing)
        else:
            member.call("receive", member.host.clock(), seen.src, seen.thing)
        assert _state(world) == before and len(world.all(DOES, effects.Emit)) == emitted, seen.thing
    world.run(0.3)
    assert world.leader().name == "secondary" and world.leader().consensus.view == before[0][0]
    world.check_history()


def _state(world: Watched) -> list:
    """View, role, record of each member; of replicas the log, memory, and the step of what is under way."""
    out = []
    for member in world.members.values():
        cons = member.consensus
        one = [cons.view, cons.role, cons.record, cons.voted_for, cons.commit_index, cons.log.after(0)]
        if member.core:
            work = member.core.role.syncvm
            one += [list(member.memory.ram), type(member.core.role), member.core.role.applied]
            one.append(work and (work.number, work.phase))
        out.append(one)
    return out
