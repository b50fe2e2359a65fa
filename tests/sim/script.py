# SPDX-License-Identifier: GPL-3.0-or-later
"""A small language for histories: commands to a world without chance, and what is to be seen of them, as lines.

    start                               run until the group is protected; nothing is printed of that
    until protected | degraded | down | staged | phase P | leads NAME      run to the event after which it holds
    run 50                              ms
    put K V | get K | cas K V NEW       one operation of a client, and wait for the answer
    ask put K V ... | answer            the same in two steps
    power-loss | power-on | kill-daemon | start-daemon | kill-qemu | freeze | thaw | isolate | rejoin | cold-start NAME
    forget NAME                         the state folder of a dead daemon is emptied
    cut A B | heal A B                  both ways
    switchover NAME | price NAME | force NAME      what the operator asks NAME for
    status | views                      of all members, of all time
    show syncvm | heartbeats | elections      which messages are printed from here on; elections at the start

What repeats itself within one output is printed once, with how often it came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from plover.core import force
from plover.core.status import DEGRADED, DOWN, consensus_status
from plover.core.status import service as service_of
from plover.ports import effects
from plover.protocol import wire

from lab.linearizable import CAS, READ, UNKNOWN, WRITE, Op

from . import faults, guest, plan
from .clients import KINDS, RETRANSMIT_S, Client
from .kinds import OF_SYNCVMS
from .shown import TIME_CHARACTERS, line
from .watch import DOES, Watched

WORDS = {"put": WRITE, "get": READ, "cas": CAS}
ANSWER_S_MAX = 5.0
ELECTIONS = (
    wire.VoteRequest,
    wire.VoteReply,
    wire.ProposeRecord,
    wire.TransferLeadership,
    wire.Leave,
    wire.JoinRequest,
    wire.JoinRefused,
    wire.FillState,
    wire.FillDone,
    effects.Report,
    effects.TapUp,
    effects.TapDown,
    effects.Emit,
    effects.Promote,
)
STEPS = (
    wire.Append,
    wire.AppendAck,
    *OF_SYNCVMS,
    effects.Inject,
    effects.Drain,
    effects.StopVm,
    effects.ColoStop,
    effects.SaveDevice,
    effects.Hash,
    effects.HashBlocks,
    effects.Pack,
    effects.ColoLoad,
    effects.ContVm,
)


class Hand(Client):
    """A client that does what it is told; sends again until answered, as the others do."""

    def begin(self) -> None:
        pass

    def ask(self, word: str, key: int, value: int = 0, new: int = 0) -> None:
        if self.connection is None:
            self.connection, self.operation = self.world.new_connection(), 0
        self.operation += 1
        kind, (value, expected) = WORDS[word], (new, value) if word == "cas" else (value, 0)
        self.pending = Op(self.number, f"k{key}", kind, self.world.loop.now, UNKNOWN, value, expected)
        self._send(
            guest.REQUEST.pack(self.connection, self.operation, KINDS[kind], key, value, expected),
            self.connection,
            self.operation,
            RETRANSMIT_S,
        )


class Script:
    def __init__(self) -> None:
        self.world = Watched(0, steady=True)
        self.world.clients_end = True  # nobody but our hand
        self.hand = Hand(self.world, 0)
        self.world.clients = [self.hand]
        self._shown = ELECTIONS
        self._read = 0

    def command(self, text: str) -> list[str]:
        """Carry out one command; what was seen meanwhile, and its own answer."""
        word, *words = text.split()
        handler = getattr(self, f"_{word.replace('-', '_')}", None)
        if handler is not None:
            answer = handler(*words)
        else:
            getattr(self.world, word.replace("-", "_"))(*words)
            answer = []
        fresh, self._read = self.world.seen[self._read :], len(self.world.seen)
        return _once(line(seen, self._shown) for seen in fresh) + list(answer or [])

    # ---- time -----------------------------------------------------------------------------------------
    def _start(self) -> list[str]:
        self.world.until(self.world.protected)
        self._read = len(self.world.seen)
        return ["primary leads view 1, secondary is in sync"]

    def _run(self, ms: str) -> None:
        self.world.run(float(ms) / 1000)

    def _until(self, *words: str) -> None:
        self.world.until(self._condition(*words))

    def _condition(self, what: str, name: str = "") -> Callable[[], object]:
        world = self.world
        conditions = {
            "protected": world.protected,
            "phase": lambda: plan.phase_of(world) == name,
            "leads": lambda: self._serves(name),
            "degraded": lambda: self._service() == DEGRADED,
            "down": lambda: self._service() == DOWN,
            "staged": self._staged,
        }
        return conditions[what]

    def _service(self) -> str:
        leader = self.world.leader()
        return service_of(leader.core.at(leader.host.clock())) if leader else DOWN

    def _serves(self, name: str) -> bool:
        leader = self.world.leader()
        return leader is not None and leader.name == name and leader.core.leading.serving and leader.tap_up

    def _staged(self) -> bool:
        """The secondary has all of a syncvm, and its word for it is on the way."""
        return any(getattr(m.core and m.core.role, "must_finish_load", False) for m in self.world.members.values())

    # ---- the client -------------------------------------------------------------------------------------
    def _ask(self, word: str, key: str, *values: str) -> None:
        self.hand.ask(word, int(key[1:]), *map(int, values))

    def _put(self, *words: str) -> Iterator[str]:
        return self._operation("put", *words)

    def _get(self, *words: str) -> Iterator[str]:
        return self._operation("get", *words)

    def _cas(self, *words: str) -> Iterator[str]:
        return self._operation("cas", *words)

    def _operation(self, *words: str) -> list[str]:
        self._ask(*words)
        return self._answer(" ".join(words))

    def _answer(self, asked: str = "the last operation") -> list[str]:
        hand, began = self.hand, self.world.loop.now
        self.world.run_until(lambda: hand.pending is None, ANSWER_S_MAX)
        if hand.pending is not None:
            hand.history.append(hand.pending)
            hand.pending = hand.connection = None
            return [f"client: {asked}: no answer in {ANSWER_S_MAX:.0f} s"]
        op = hand.history[-1]
        result = {WRITE: "done", READ: op.result, CAS: "done" if op.result else "another value is there"}[op.kind]
        return [f"client: {asked}: {result}, after {1000 * (op.end - began):.1f} ms"]

    # ---- faults -------------------------------------------------------------------------------------------
    def _kill_daemon(self, name: str) -> None:
        self.world.kill_daemon(name, restart=False)

    def _start_daemon(self, name: str) -> None:
        self.world.restart_daemon(name)

    def _kill_qemu(self, name: str) -> None:
        faults.kill_qemu(self.world, None, name)

    def _cut(self, a: str, b: str) -> None:
        self.world.network.cut(a, b)
        self.world.network.cut(b, a)

    def _heal(self, a: str, b: str) -> None:
        self.world.network.heal(a, b)
        self.world.network.heal(b, a)

    # ---- the operator ---------------------------------------------------------------------------------------
    def _switchover(self, name: str) -> list[str]:
        answers: list = []
        self.world.members[name].call("switchover", answers.append)
        self.world.until(lambda: answers)
        return [f"operator: switchover: {answers[0] or 'done'}"]

    def _cold_start(self, name: str) -> None:
        self.world.ghost.forgotten = True
        self.world.members[name].call("cold_start")

    def _price(self, name: str) -> list[str]:
        member = self.world.members[name]
        core = member.core.at(member.host.clock())
        return [f"operator: {text}" for text in [force.refusal(core)] if text] or [f"operator: {text}" for text in force.price(core)]

    def _force(self, name: str) -> list[str]:
        self.world.ghost.forgotten = True  # the price was read and accepted
        member = self.world.members[name]
        why_not = force.force(member.core.at(member.host.clock()))
        member.run()
        return [f"operator: refused: {why_not}"] if why_not else []

    # ---- what is to be seen -----------------------------------------------------------------------------
    def _show(self, what: str) -> None:
        self._shown = {"elections": ELECTIONS, "syncvm": ELECTIONS + STEPS, "heartbeats": (*ELECTIONS, wire.Heartbeat, wire.HeartbeatAck)}[
            what
        ]

    def _status(self) -> Iterator[str]:
        for name, member in self.world.members.items():
            if not self.world.hosts[name].on:
                yield f"{name:9}  its host is off"
            elif member.dead or member.holds:
                yield f"{name:9}  its daemon is {'dead' if member.dead else 'hung'}"
            else:
                member.core and member.core.at(member.host.clock())
                witness = member.core is None and _witness(member.consensus, member.host.clock())
                yield f"{name:9}  {witness or _replica(member.core.status())}"

    def _views(self) -> Iterator[str]:
        told = {}
        for seen in self.world.all(DOES, effects.Happened):
            facts = seen.thing.facts
            if seen.thing.kind == "view" and (facts["view"] not in told or seen.who == facts["leader"]):
                why = f"{facts['cause']}, {seen.thing.why}" if seen.thing.why else facts["cause"]
                told[facts["view"]] = f"view {facts['view']}: {facts['leader']} leads: {why}"
        return iter(told.values())


def _once(lines: Iterator[str | None]) -> list[str]:
    """The lines, but such as differ in their time only once."""
    first: dict[str, str] = {}
    count = Counter()
    for one in filter(None, lines):
        time, text = one[:TIME_CHARACTERS], one[TIME_CHARACTERS:]
        first.setdefault(text, time)
        count[text] += 1
    return [f"{time}{text}" + (f" ({count[text]} times)" if count[text] > 1 else "") for text, time in first.items()]


def _replica(status: dict) -> str:
    return (
        f"view {status['view']}, {status['role']}, {status['service']}, in sync: {', '.join(status['in_sync'])}\n"
        f"           {status['sentence']}"
    )


def _witness(cons, now: float) -> str:
    status = consensus_status(cons)
    text = f"view {status['view']}, witness, in sync: {', '.join(status['in_sync'])}"
    return f"{text}\n           {cons.forgotten(now)}" if cons.amnesia else text


def replay(text: str) -> str:
    """The transcript ``text`` with the output its commands give now."""
    script, out = Script(), []
    for block in text.rstrip().split("\n\n"):
        head = block.split("\n----", 1)[0].split("\n")
        commands = [one for one in head if one and not one.startswith("#")]
        if commands:
            lines = [one for command in commands for one in script.command(command)]
            if lines or any(not one.startswith("show") for one in commands):
                head += ["----", *(lines or ["nothing to be seen"])]
        out.append("\n".join(head))
    script.world.check_history()
    return "\n\n".join(out) + "\n"
