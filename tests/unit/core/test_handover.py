# SPDX-License-Identifier: GPL-3.0-or-later
"""A switchover: who is asked for the vote, what runs at the same time, and which frames go where."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus, Send
from plover.consensus.durable import Durable, Record
from plover.errors import WireError
from plover.ports import effects
from plover.protocol import wire
from plover.protocol.frames import wrap
from settings import MEMBERS

from tests.sim.rig import protected
from tests.sim.watch import DOES

pytestmark = pytest.mark.usefixtures("small_pages")


@pytest.fixture
def group():
    return protected()


def test_switchover(group):
    group.write(3)
    answers = group["primary"].switchover()
    group.until(lambda: answers)
    assert answers == [None]
    group.until(group.protected)
    assert group.serving().name == "secondary"
    assert group["secondary"].has(3)


def test_a_handover_asks_the_old_leader_alone_and_gets_the_frames_it_has_taken_in(group):
    """The witness is quicker: with its vote the secondary would win without what only the old leader holds."""
    asked = []

    def look(seen):
        if isinstance(seen.thing, Send) and isinstance(seen.thing.message, wire.VoteRequest):
            asked.append((seen.who, seen.thing.to, seen.thing.message.transfer))
            if len(asked) == 1:  # taken in after the request to stand, before the vote
                group["primary"].call("input", group.frame(77))

    group.before = look
    group["primary"].switchover()
    group.until(lambda: group.serving() is group["secondary"])
    assert asked == [("secondary", "primary", True)]
    group.run(0.1)
    assert group["secondary"].has(77)  # nobody had to send it again
    group.until(group.protected)


def test_a_handover_runs_the_election_while_the_secondary_loads(group):
    secondary, since = group["secondary"], len(group.seen)

    def steps():
        kinds = (effects.ColoLoad, effects.TapEarly, effects.Promote, effects.TapUp, Send)
        done = [seen.thing for seen in group.seen[since:] if seen.how == DOES and seen.who == "secondary" and isinstance(seen.thing, kinds)]
        names = [type(getattr(thing, "message", thing)).__name__ for thing in done]
        return [name for name in names if name in ("ColoLoad", "VoteRequest", "TapEarly", "Promote", "TapUp")]

    group.until(lambda: not group["primary"].core.role.syncvm)
    since = len(group.seen)
    held = secondary.hold(effects.ColoLoad)  # the load takes as long as it likes
    group["primary"].switchover()
    group.until(lambda: held and secondary.core.leading)
    group.run(0.2)
    assert secondary.core.leading and not secondary.core.leading.serving
    assert [name for name in steps() if name != "ColoLoad"] == ["VoteRequest", "TapEarly"]
    secondary.let_go(effects.ColoLoad)
    group.until(lambda: group.serving() is secondary)
    assert steps() == ["VoteRequest", "TapEarly", "ColoLoad", "Promote", "TapUp"]
    group.until(group.protected)


def test_a_handover_whose_old_leader_dies_before_its_vote_is_a_failover(group):
    group["primary"].switchover()
    group.until(lambda: group["secondary"].consensus.role == "candidate")
    group.kill("primary")
    group.until(group.serving, 1.0)
    assert group.write(9).name == "secondary"


def test_who_voted_does_not_stand_against_its_choice(group):
    """A deposed leader has heard no leader for long; without a pause it would depose the one it has just elected."""
    group["primary"].switchover()
    group.run(3.0)
    assert group["secondary"].views()[-1][0] == 2 and group.serving().name == "secondary"
    assert {member.consensus.view for member in group.members.values()} == {2}


def test_frames_that_reach_who_handed_over_are_passed_on(group):
    """Until the network has learnt; those for the VM alone, and only after a handover."""
    group["primary"].switchover()
    old, new = group["primary"], group["secondary"]
    group.until(lambda: old.consensus.leader == "secondary")
    old.call("input", group.frame(7))
    old.call("input", group.frame(8, mac=b"\xff" * 6))
    group.run(0.1)
    assert new.has(7) and not new.has(8)
    assert old.core.late.active(old.core)
    group.run(1.0)
    assert not old.core.late.active(old.core)
    group.until(group.protected)
    group.kill("secondary")
    group.until(lambda: group.serving() is old)
    assert not group["secondary"].core.late.active(group["secondary"].core)


def test_each_frame_that_is_passed_on_is_for_the_card_it_came_to(group):
    old, macs = group["primary"], [bytes.fromhex(text * 6) for text in ("02", "06")]
    given = {"nics": [SimpleNamespace(mac=":".join(["02"] * 6)), SimpleNamespace(mac=":".join(["06"] * 6))]}
    core = SimpleNamespace(config=SimpleNamespace(**given), consensus=old.core.consensus)
    mine = [wrap(macs[card] + b"for it", card) for card in (0, 1, 1, 0)]
    run = mine[0] + wrap(macs[1] + b"on the wrong card", 0) + mine[1] + wrap(b"\xff" * 6 + b"for all", 1) + mine[2] + mine[3]
    (sent,) = old.core.late.forward(core, run)
    assert sent.message.payload == b"".join(mine)
    assert old.core.late.forward(core, wrap(macs[0] + b"on the wrong card", 1)) == []


@pytest.mark.parametrize("payload", [b"\0", b"\0\0\0\1", b"\0\0\0\0", b"\xff" * 8, wrap(b"x", 1)], ids=repr)
def test_late_input_that_is_no_frames_is_refused(group, payload):
    with pytest.raises(WireError):
        group["primary"].core.data(wire.LateInput(1, payload))
    group["secondary"].core.data(wire.LateInput(1, payload))  # it does not lead: passed over


def test_who_voted_waits_before_it_stands_itself():
    kinds = {m: v["kind"] for m, v in MEMBERS.items()}
    member = Consensus("primary", kinds, Durable(1, None, Record(1, 1, frozenset({"primary", "secondary"}))), Timing(0.1, 0.02, 0.15), 0.0)
    member.eligible = True
    member.receive(5.0, "secondary", wire.VoteRequest(2, False, True, 1, 1, 0b011, 0, 0))
    assert [m.granted for _, m in (a for a in member.take() if isinstance(a, Send))] == [True]
    asked = []
    for ms in range(300):
        member.tick(5.0 + ms / 1000)
        asked += [ms for a in member.take() if isinstance(a, Send)][:1]
    assert asked[0] == 150  # it had heard no leader for five seconds
