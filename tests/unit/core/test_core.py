# SPDX-License-Identifier: GPL-3.0-or-later
"""The real core of three members over simulated hosts: the main job and its faults."""
from __future__ import annotations

import pytest
from cluster import ANSWERS, MEMBERS, PAGES, Cluster
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus, Send
from plover.consensus.durable import Durable, Record
from plover.errors import WireError
from plover.ports import effects as act
from plover.protocol import wire
from plover.syncvm.phases import LeaderSyncPhase

STEPS = range(1, 40)  # every step of a syncvm, and some after


@pytest.fixture
def cluster():
    out = Cluster()
    out.run_until(out.protected)
    return out


def write(cluster, value, seconds=3.0):
    """Send until it is answered, as TCP would; returns the node that answered."""
    frame = value.to_bytes(8, "big")
    end = cluster.now + seconds
    while cluster.now < end:
        cluster.send(value)
        for _ in range(60):
            cluster.step()
            for node in cluster.nodes.values():
                if frame in node.released:
                    return node
    raise AssertionError(f"{value} was never answered: " + str([n.core.status() for n in cluster.nodes.values() if n.core]))


def test_boots_fills_and_protects(cluster):
    leader = cluster.leader()
    assert leader.name == "primary"
    assert cluster["secondary"].core.status()["role"] == "secondary"
    assert leader.consensus.record.in_sync == {"primary", "secondary"}
    assert cluster["witness"].consensus.record == leader.consensus.record


def test_a_fill_waits_for_its_dirty_pages_while_clients_are_served(monkeypatch):
    """With tracking by scan they take long: hashing all of memory, in each round."""
    monkeypatch.delitem(ANSWERS, act.FetchDirty)  # it is answered below
    cluster = Cluster()
    cluster.run_until(lambda: cluster.leader() and cluster.leader().core.leading.fill)
    leader, rounds = cluster.leader(), 0
    while not cluster.protected():
        fill = leader.core.leading.fill
        if fill and fill.phase == LeaderSyncPhase.LIVE and "FetchDirty" in leader.done:
            sent = fill.pages_sent
            write(cluster, 100 + rounds)
            leader.core.at(cluster.now).data_writable()
            leader.pump()
            cluster.run(1.0)  # more than the others may be silent for
            assert (leader.core.leading.fill, fill.pages_sent) == (fill, sent)
            assert fill.progress == ("live 100 %" if rounds else "live 0 %")
            assert not {"Drain", "SendData"} & set(leader.done[leader.done.index("FetchDirty"):])
            leader.done.clear()
            for tag in (("fill", 0, 0), fill.tag):  # one of an earlier fill is not waited for
                leader.core.at(cluster.now).answer("dirty_fetched", tag)
            rounds += 1
        elif fill:
            leader.core.at(cluster.now).answer("dirty_fetched", fill.tag)  # nor is one that comes again
        cluster.step()
    assert rounds == 2 and cluster["secondary"].memory.ram[100 % PAGES] == 100


def test_output_waits_for_the_syncvm(cluster):
    before = cluster.leader().core.totals["syncvms"]
    write(cluster, 5)
    leader = cluster.leader()
    cluster.run_until(lambda: leader.core.totals["syncvms"] > before)
    cluster.run(0.05)
    assert leader.memory.ram[5] == cluster["secondary"].memory.ram[5] == 5
    assert cluster["secondary"].released == []


def test_nothing_leaves_while_the_data_channel_is_cut(cluster):
    cluster.cut.add(frozenset(("primary", "secondary")))
    cluster.send(6)
    cluster.run(0.2)  # less than peer_timeout_ms
    assert cluster["primary"].released == []
    cluster.run_until(lambda: cluster.leader() and cluster.leader().core.status()["service"] == "degraded")
    assert write(cluster, 7).name == "primary"


def test_leader_dies_and_everything_acknowledged_is_there(cluster):
    for value in range(1, 9):
        write(cluster, value)
    cluster.kill("primary")
    cluster.run_until(lambda: cluster.leader() is not None)
    assert cluster.leader().name == "secondary"
    assert cluster["secondary"].memory.ram[1:9] == list(range(1, 9))
    assert write(cluster, 50).name == "secondary"
    cluster.restart("primary")
    cluster.run_until(cluster.protected)
    assert write(cluster, 51).name == "secondary"
    assert cluster["primary"].core.status()["role"] == "secondary"


@pytest.mark.parametrize("steps", STEPS)
def test_leader_dies_in_each_step_of_a_syncvm(cluster, steps):
    for value in range(1, 4):
        write(cluster, value)
    cluster.send(4)
    for _ in range(steps):
        cluster.step()
    acked = [v for v in range(1, 5) if v.to_bytes(8, "big") in cluster["primary"].released]
    cluster.kill("primary")
    cluster.run_until(lambda: cluster.leader() is not None)
    survivor = cluster["secondary"]
    assert survivor.name == cluster.leader().name
    for value in acked:
        assert survivor.memory.ram[value] == value
    assert write(cluster, 9) is survivor


@pytest.mark.parametrize("steps", STEPS)
def test_secondary_dies_in_each_step_of_a_syncvm(cluster, steps):
    cluster.send(4)
    for _ in range(steps):
        cluster.step()
    cluster.kill("secondary")
    assert write(cluster, 9).name == "primary"
    assert cluster["witness"].consensus.record.in_sync == {"primary"}
    cluster.restart("secondary")
    cluster.run_until(cluster.protected)


@pytest.mark.parametrize("steps", range(0, 60, 3))
def test_leader_dies_in_the_fill(steps):
    """Before the record names the secondary it must not lead; after that it must, with the whole state."""
    cluster = Cluster()
    cluster.run_until(lambda: cluster.leader() is not None)
    write(cluster, 3)
    for _ in range(steps):
        cluster.step()
    cluster.kill("primary")
    cluster.run(2.0)
    leader = cluster.leader()
    if leader:
        assert leader.memory.ram[3] == 3
    else:
        assert "secondary" not in cluster["witness"].consensus.record.in_sync


def test_stale_member_never_leads(cluster):
    """The secondary is lost, the leader goes on alone and dies: the secondary's old copy must not serve."""
    cluster.kill("secondary")
    write(cluster, 9)
    cluster.kill("primary")
    cluster.nodes["secondary"].alive = True  # only its network was gone: it still holds the old copy
    cluster.run(3.0)
    assert cluster.leader() is None


def test_cut_off_leader_goes_silent(cluster):
    cluster.cut |= {frozenset(("primary", "secondary")), frozenset(("primary", "witness"))}
    old = cluster["primary"]
    cluster.run_until(lambda: cluster.leader() is not None and cluster.leader().name == "secondary")
    before = len(old.released)
    frame = (77).to_bytes(8, "big")
    old.core.at(cluster.now).input(len(frame).to_bytes(4, "big") + frame)
    old.pump()
    cluster.run(1.0)
    assert len(old.released) == before
    cluster.cut.clear()
    for node in cluster.nodes.values():
        for other in cluster.nodes:
            if other != node.name:
                node.consensus.connected(other)
    cluster.run_until(cluster.protected)
    assert cluster.leader().name == "secondary"
    assert frame not in old.released


def test_witness_dies_and_nobody_notices(cluster):
    cluster.kill("witness")
    for value in range(1, 5):
        assert write(cluster, value).name == "primary"
    assert cluster.protected()


def test_two_lost_stops_the_service(cluster):
    cluster.kill("witness")
    cluster.kill("secondary")
    cluster.send(5)
    cluster.run(2.0)
    assert cluster["primary"].released == []
    assert cluster["primary"].core.status()["service"] == "down"


def test_switchover(cluster):
    write(cluster, 3)
    answers = []
    cluster["primary"].core.at(cluster.now).switchover(answers.append)
    cluster["primary"].pump()
    cluster.run_until(lambda: answers)
    assert answers == [None]
    cluster.run_until(cluster.protected)
    assert cluster.leader().name == "secondary"
    assert cluster["secondary"].memory.ram[3] == 3


def test_audit_compares_everything(cluster):
    write(cluster, 3)
    answers = []
    cluster.leader().core.at(cluster.now).audit(answers.append)
    cluster.leader().pump()
    cluster.run_until(lambda: answers)
    assert (answers[0].mismatching, answers[0].untracked) == (0, 0)


def test_audit_finds_a_write_that_was_not_tracked(cluster):
    cluster["secondary"].memory.ram[PAGES // 2] = 12345
    answers = []
    cluster.leader().core.at(cluster.now).audit(answers.append)
    cluster.leader().pump()
    cluster.run_until(lambda: answers)
    assert (answers[0].mismatching, answers[0].untracked) == (0, 1)


def test_leaders_qemu_dies(cluster):
    write(cluster, 3)
    node = cluster["primary"]
    node.qemu = False
    node.answers.clear()
    node.core.at(cluster.now).qemu_exited("killed")
    node.pump()
    cluster.run_until(lambda: cluster.leader() is not None and cluster.leader().name == "secondary", 2.0)
    assert cluster["secondary"].memory.ram[3] == 3
    cluster.run_until(cluster.protected)


FACTS = {"qemu_version": "7.2.22", "guest_memory_mib": 256, "guest_machine": "pc"}
OTHERS = {"qemu_version": "7.2.9", "guest_memory_mib": 512, "guest_machine": "pc-i440fx-7.1"}


def answer_with(node, facts):
    """Each QEMU that ``node`` starts from now on says these facts of itself."""
    original = node.do

    def do(action):
        original(action)
        if isinstance(action, act.StartQemu):
            assert node.answers[-1][0] == "qemu_ready"
            node.answers[-1] = ("qemu_ready", facts)

    node.do = do


@pytest.mark.parametrize("different", [("qemu_version",), ("guest_memory_mib",), ("guest_machine",), tuple(OTHERS)],
                         ids=["version", "ram", "machine", "all"])
def test_unequal_replicas_are_refused(different):
    """A secondary of other facts is told each of them and never joins; made equal, it does."""
    cluster = Cluster()
    answer_with(cluster["primary"], FACTS)
    answer_with(cluster["secondary"], {**FACTS, **{key: OTHERS[key] for key in different}})
    refusals, post = [], cluster.post

    def watch(src, to, message, channel):
        if isinstance(message, wire.JoinRefused):
            refusals.append((src, to, message.payload.decode()))
        assert not isinstance(message, (wire.FillPages, wire.FillState, wire.FillDone)), message
        post(src, to, message, channel)

    cluster.post = watch
    cluster.run_until(lambda: refusals)
    for value in range(1, 5):
        assert write(cluster, value).name == "primary"
        cluster.run(0.5)
    leader, secondary = cluster["primary"].core, cluster["secondary"].core
    assert len(refusals) > 3  # it asks again, and is refused again
    for src, to, text in refusals:
        assert (src, to) == ("primary", "secondary")
        assert {key for key in FACTS if f"{key} is " in text} == set(different)
        assert all(f"{key} is {OTHERS[key]!r} there and {FACTS[key]!r} here" in text for key in different)
    assert all(node.consensus.record.in_sync == {"primary"} for node in cluster.nodes.values())
    assert leader.status()["service"] == "degraded" and f"secondary cannot join: {text}" in leader.status()["sentence"]
    assert (secondary.status()["role"], secondary.status()["sentence"]) == ("idle", f"refused by primary: {text}")
    assert not any(cluster["secondary"].memory.ram) and cluster["secondary"].released == []

    cluster.post = post
    cluster.restart("secondary")
    answer_with(cluster["secondary"], FACTS)
    cluster.run_until(cluster.protected)
    assert cluster["secondary"].memory.ram[1:5] == [1, 2, 3, 4]
    assert write(cluster, 9).name == "primary"


def hand_over(cluster):
    answers = []
    cluster["primary"].core.at(cluster.now).switchover(answers.append)
    cluster["primary"].pump()
    return answers


def test_a_handover_asks_the_old_leader_alone_and_gets_the_frames_it_has_taken_in(cluster):
    """The witness is quicker: with its vote the secondary would win without what only the old leader holds."""
    asked, post = [], cluster.post

    def watch(src, to, message, channel):
        if isinstance(message, wire.VoteRequest):
            asked.append((src, to, message.transfer))
            if len(asked) == 1:
                cluster.send(77)  # taken in after the request to stand, before the vote
        post(src, to, message, channel)

    cluster.post = watch
    hand_over(cluster)
    cluster.run_until(lambda: cluster.leader() is not None and cluster.leader().name == "secondary")
    assert asked == [("secondary", "primary", True)]
    cluster.run(0.1)
    assert cluster["secondary"].memory.ram[77] == 77  # nobody had to send it again
    cluster.run_until(cluster.protected)


def test_a_handover_runs_the_election_while_the_secondary_loads(cluster):
    steps, held, node = [], [], cluster["secondary"]
    original = node.do

    def do(action):
        if isinstance(action, (act.ColoLoad, act.TapEarly, act.Promote, act.TapUp)):
            steps.append(type(action).__name__)
        elif type(action).__name__ == "Send" and isinstance(action.message, wire.VoteRequest):
            steps.append("VoteRequest")
        original(action)
        if isinstance(action, act.ColoLoad):
            held.append(node.answers.pop())  # the load takes as long as it likes

    cluster.run_until(lambda: not cluster["primary"].core.role.syncvm)
    node.do = do
    hand_over(cluster)
    cluster.run_until(lambda: "TapEarly" in steps)
    cluster.run(0.2)
    assert steps == ["ColoLoad", "VoteRequest", "TapEarly"] and node.core.leading and not node.core.leading.serving
    node.answers.append(held[0])
    cluster.run_until(lambda: cluster.leader() is node)
    assert steps == ["ColoLoad", "VoteRequest", "TapEarly", "Promote", "TapUp"]
    cluster.run_until(cluster.protected)


def test_a_handover_whose_old_leader_dies_before_its_vote_is_a_failover(cluster):
    hand_over(cluster)
    cluster.run_until(lambda: cluster["secondary"].consensus.role == "candidate")
    cluster.kill("primary")
    cluster.run_until(lambda: cluster.leader() is not None, 1.0)
    assert write(cluster, 9).name == "secondary"


def test_who_voted_does_not_stand_against_its_choice(cluster):
    """A deposed leader has heard no leader for long; without a pause it would depose the one it has just elected."""
    hand_over(cluster)
    views = set()
    for _ in range(3000):
        cluster.step()
        views |= {n.consensus.view for n in cluster.nodes.values()}
    assert views == {1, 2} and cluster.leader().name == "secondary"


def test_frames_that_reach_who_handed_over_are_passed_on(cluster):
    """Until the network has learnt; those for the VM alone, and only after a handover."""
    hand_over(cluster)
    old, new = cluster["primary"], cluster["secondary"]
    cluster.run_until(lambda: old.consensus.leader == "secondary")
    mac = bytes.fromhex(old.config.guest_mac.replace(":", ""))
    for first in (mac, b"\xff" * 6):
        frame = first + b"\0" * 2 + first
        old.core.at(cluster.now).input(len(frame).to_bytes(4, "big") + frame)
        old.pump()
    cluster.run(0.1)
    fed = [int.from_bytes(first + b"\0" * 2, "big") for first in (mac, b"\xff" * 6)]
    assert new.memory.ram[fed[0] % PAGES] == fed[0] and new.memory.ram[fed[1] % PAGES] == 0
    assert old.core.late.active(old.core)
    cluster.run(1.0)
    assert not old.core.late.active(old.core)
    cluster.run_until(cluster.protected)
    cluster.kill("secondary")
    cluster.run_until(lambda: cluster.leader() is old)
    assert not cluster["secondary"].core.late.active(cluster["secondary"].core)


@pytest.mark.parametrize("payload", [b"\0", b"\0\0\0\1", b"\0\0\0\0", b"\xff" * 8], ids=repr)
def test_late_input_that_is_no_frames_is_refused(cluster, payload):
    with pytest.raises(WireError):
        cluster["primary"].core.at(cluster.now).data(wire.LateInput(1, payload))
    cluster["secondary"].core.at(cluster.now).data(wire.LateInput(1, payload))  # it does not lead: passed over


def test_who_voted_waits_before_it_stands_itself():
    kinds = {m: v["kind"] for m, v in MEMBERS.items()}
    member = Consensus("primary", kinds, Durable(1, None, Record(1, 1, frozenset({"primary", "secondary"}))),
                       Timing(0.1, 0.02, 0.15), 0.0)
    member.eligible = True
    member.receive(5.0, "secondary", wire.VoteRequest(2, False, True, 1, 1, 0b011, 0, 0))
    assert [m.granted for _, m in (a for a in member.take() if isinstance(a, Send))] == [True]
    asked = []
    for ms in range(300):
        member.tick(5.0 + ms / 1000)
        asked += [ms for a in member.take() if isinstance(a, Send)][:1]
    assert asked[0] == 150  # it had heard no leader for five seconds


def test_a_candidate_that_loses_its_copy_while_the_votes_are_under_way_does_not_boot_an_empty_vm(cluster):
    """Found by the simulator: both QEMUs die within a message's time, and the group went on from nothing."""
    write(cluster, 5)
    secondary = cluster["secondary"]
    cluster.kill("primary")
    cluster.run_until(lambda: secondary.consensus.role == "candidate")
    secondary.qemu = False
    secondary.core.at(cluster.now).qemu_exited("QEMU ended")
    secondary.pump()
    cluster.run(2.0)
    assert cluster.leader() is None and not secondary.released
    assert "lost here" in secondary.core.status()["sentence"]


@pytest.mark.parametrize("phase", ["stop", "hash"])
def test_a_refused_command_is_not_asked_again_in_the_middle_of_a_syncvm(cluster, phase):
    """A VM that ran on there would change pages that are hashed already."""
    node = cluster.leader()
    leader = node.core.leading
    cluster.send(4)
    cluster.run_until(lambda: leader.syncvm is not None and leader.syncvm.phase == phase)
    leader._retry_at = cluster.now
    node.core.at(cluster.now).tick()
    assert not [a for a in node.core.take() if isinstance(a, act.ContVm)] and leader._retry_at is None


def test_a_refused_command_of_the_only_copy_is_asked_again():
    cluster = Cluster()
    cluster.run_until(lambda: cluster.leader() is not None)
    cluster.kill("secondary")
    node, asked = cluster["primary"], []
    cluster.run(1.0)
    original, node.do = node.do, lambda action: (asked.append(type(action)), original(action))
    node.core.at(cluster.now).answer("failed", ("cont",), "QMP: refused")
    cluster.run(0.5)
    assert act.ContVm not in asked and act.KillQemu not in asked
    cluster.run(1.0)
    assert asked.count(act.ContVm) == 1 and act.KillQemu not in asked and cluster.leader() is node


def test_a_stop_that_was_given_up_does_not_undo_the_next_one():
    """Found in the lab: a stop that took long, a view that came and went, and memory copied while the VM ran."""
    cluster = Cluster()
    cluster.run_until(cluster.protected)
    core = cluster["primary"].core.at(cluster.now)
    core.emit(act.StopVm("first"), act.StopVm("second"))
    core.take()
    core.answer("vm_stopped", "first")
    assert not any(isinstance(a, act.ContVm) for a in core.take())
    core.answer("vm_stopped", "second")
    assert any(isinstance(a, act.ContVm) for a in core.take())
    core.emit(act.StopVm("third"), act.ContVm())
    core.take()
    core.answer("vm_stopped", "third")
    assert not any(isinstance(a, act.ContVm) for a in core.take())
