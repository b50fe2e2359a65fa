# SPDX-License-Identifier: GPL-3.0-or-later
"""The wires between the members: connections like those of TCP, and the faults that messages meet on them.

In a connection messages keep their order and none is lost, unless it breaks. Behind a cut they wait at the sender, as in
its socket, and arrive late when the cut heals. `lossy` goes beyond TCP: control messages are lost, doubled, reordered.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from plover.protocol import codec, wire

from .loop import Loop

if TYPE_CHECKING:
    from .member import Member

LATENCY_S = (0.00005, 0.0004)
RETRY_S = 0.05
SILENCE_S = 2.0
KEEPALIVE_S = 1.0
QUEUE_MESSAGES_MAX = 5000
STAGED = (wire.StageBlocks, wire.StagePages, wire.StageEnd)


class Connection:
    def __init__(self, a: str, b: str, channel: int) -> None:
        self.ends, self.channel = (a, b), channel
        self.up = False
        self.unaware: set[str] = set()  # ends whose socket still looks open
        self.epoch = 0
        self.arrival = {a: 0.0, b: 0.0}
        self.stuck: dict[str, list] = {a: [], b: []}


class Network:
    def __init__(self, loop: Loop, rng: random.Random, members: dict[str, Member], codec: bool) -> None:
        """``codec``: every message goes through the bytes of the wire format."""
        self._loop, self._rng, self._members, self._codec = loop, rng, members, codec
        self.on_vote = lambda src, dst, message: None
        self.cut_since: dict[tuple[str, str], float] = {}
        self.lossy = 0.0
        self.lossy_at = float("-inf")  # when it was so last: what is overtaken then may undo what was said later
        self.corrupt = 0
        self.connections: dict[tuple[str, str, int], Connection] = {}
        for a, b in (("primary", "secondary"), ("primary", "witness"), ("secondary", "witness")):
            for channel in (wire.CONTROL, wire.DATA)[: 2 if b == "secondary" else 1]:
                one = Connection(a, b, channel)
                self.connections[a, b, channel] = self.connections[b, a, channel] = one
                self._loop.after(0.001, None, self._connect, one)

    def _all(self) -> list[Connection]:
        return list({id(c): c for c in self.connections.values()}.values())

    # ---- messages -----------------------------------------------------------------------------------
    def send(self, src: str, dst: str, channel: int, message: wire.Message) -> None:
        one = self.connections[src, dst, channel]
        if isinstance(message, (wire.VoteRequest, wire.VoteReply)):
            self.on_vote(src, dst, message)
        if not one.up:
            return
        if self.corrupt and channel == wire.DATA and isinstance(message, STAGED):
            self.corrupt -= 1
            message = self._corrupted(message)
        if (src, dst) in self.cut_since:
            if len(one.stuck[src]) < QUEUE_MESSAGES_MAX:
                one.stuck[src].append(message)
            return
        copies = 1
        if self.lossy and channel == wire.CONTROL:
            roll = self._rng.random()
            copies = 0 if roll < self.lossy else 2 if roll < 1.5 * self.lossy else 1
        for _ in range(copies):
            self._post(one, src, dst, message)

    def _post(self, one: Connection, src: str, dst: str, message: wire.Message) -> None:
        low, high = LATENCY_S
        arrival = self._loop.now + low + (high - low) * self._rng.random()
        if self.lossy and one.channel == wire.CONTROL:
            self.lossy_at = self._loop.now
        if self.lossy and one.channel == wire.CONTROL and self._rng.random() < self.lossy:
            arrival += 0.05 * self._rng.random()  # overtaken by what follows
        else:
            arrival = one.arrival[src] = max(arrival, one.arrival[src])
        if self._codec:
            message = next(iter(codec.Decoder(1).feed(b"".join(codec.encode(message, 1)))))
        self._loop.after(arrival - self._loop.now, self._members[dst], self._deliver, one, one.epoch, src, dst, message)

    def _deliver(self, one: Connection, epoch: int, src: str, dst: str, message: wire.Message) -> None:
        if epoch == one.epoch:
            self._members[dst].message(src, one.channel, message)

    def _corrupted(self, message: wire.StageBlocks | wire.StagePages | wire.StageEnd) -> wire.Message:
        if not message.payload:
            return message
        at = self._rng.randrange(len(message.payload))
        payload = message.payload[:at] + bytes([message.payload[at] ^ 0x40]) + message.payload[at + 1 :]
        return replace(message, payload=payload)

    # ---- connections ------------------------------------------------------------------------------
    def drop(self, src: str, dst: str, channel: int) -> None:
        """An end closes: both hear of it, if there is a way."""
        one = self.connections[src, dst, channel]
        if not one.up:
            return
        one.up = False
        one.epoch += 1
        one.stuck = {src: [], dst: []}
        cut = (src, dst) in self.cut_since or (dst, src) in self.cut_since
        for end in one.ends:
            if end == src or not cut:
                self._loop.after(0.0005, self._members[end], self._members[end].link_down, channel)
            else:
                one.unaware.add(end)
        self._loop.after(RETRY_S * (0.5 + self._rng.random()), None, self._connect, one)

    def host_lost(self, name: str) -> None:
        """No FIN: the others keep their end until the host is back."""
        for one in self._all():
            if name in one.ends:
                one.unaware.discard(name)
                one.epoch += 1
                one.stuck = {end: [] for end in one.ends}

    def host_back(self, name: str) -> None:
        for one in self._all():
            if name in one.ends:
                was_up, one.up = one.up, False
                one.epoch += 1
                other = one.ends[one.ends[0] == name]
                if was_up and not self._members[other].dead:
                    self._loop.after(0.0005, self._members[other], self._members[other].link_down, one.channel)
                self._loop.after(RETRY_S, None, self._connect, one)

    def _connect(self, one: Connection) -> None:
        if one.up:
            return
        a, b = one.ends
        cut = (a, b) in self.cut_since or (b, a) in self.cut_since
        if cut or any(self._members[m].dead or self._members[m].holds for m in one.ends):
            self._loop.after(RETRY_S, None, self._connect, one)
            return
        if one.unaware:  # the dialler learns from a keepalive that its socket is dead, the other from the new connection
            dials = a in one.unaware
            for end in one.unaware:
                self._loop.after(0.0005, self._members[end], self._members[end].link_down, one.channel)
            one.unaware = set()
            if dials:
                self._loop.after(KEEPALIVE_S, None, self._connect, one)
                return
        one.up = True
        one.epoch += 1
        one.stuck = {end: [] for end in one.ends}
        for end, other in ((a, b), (b, a)):
            self._loop.after(0.0005, self._members[end], self._members[end].link_up, other, one.channel)

    # ---- cuts ---------------------------------------------------------------------------------------
    def cut(self, src: str, dst: str) -> None:
        self.cut_since.setdefault((src, dst), self._loop.now)

    def heal(self, src: str, dst: str) -> None:
        since = self.cut_since.pop((src, dst), None)
        if since is None:
            return
        for channel in (wire.CONTROL, wire.DATA):
            one = self.connections.get((src, dst, channel))
            if one is None or not one.up:
                continue
            if self._loop.now - since > SILENCE_S or self._rng.random() < 0.3:
                self.drop(src, dst, channel)
            else:
                stuck, one.stuck[src] = one.stuck[src], []
                for message in stuck:
                    self._post(one, src, dst, message)
