# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated RDMA card, as plover.consensus.one_sided needs it: what it writes lands in the memory of a process, whatever that process
does meanwhile, as long as it lives and has not taken the permission away. A write that fails is told of late.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

from plover.consensus.log import last_index
from plover.protocol import codec, wire

if TYPE_CHECKING:
    from .member import Member

LATENCY_S = (0.00001, 0.0001)
FAILS_S = 0.4  # the card tries again so long
LOOKS_S = 0.00002, (0.0008, 0.0008, 0.03)  # when a follower that polls its memory finds something; some are slow
RING_BYTES = 1 << 16
WORD = struct.Struct("<Q")


class _Memory:
    """A ring, in a follower."""

    def __init__(self, ring: int) -> None:
        self.ring, self.writer = ring, 0
        self.frames: deque[bytes] = deque()
        self.bytes = 0
        self.counters = bytes(72)


class _End:
    """The writer's end."""

    def __init__(self, ring: int, token: int) -> None:
        self.ring, self.token = ring, token
        self.number, self.broken = 0, False
        self.arrival = self.answer = 0.0


class SimCard:
    def __init__(self, member: Member) -> None:
        self.member, self.world, self.loop = member, member.world, member.world.loop
        self.rng = member.host.rng
        self.memories: dict[str, _Memory] = {}
        self.ends: dict[str, _End] = {}
        self.looks_s = (LOOKS_S[0], self.rng.choice(LOOKS_S[1]))  # as a follower

    # ---- follower ---------------------------------------------------------------------------------
    def offer(self, leader: str, ring: int) -> bytes:
        self.memories[leader] = _Memory(ring)
        return WORD.pack(ring)

    def open(self, leader: str, answer: bytes) -> bool:
        (self.memories[leader].writer,) = WORD.unpack(answer)
        return True

    def revoke(self, leader: str) -> None:
        self.memories[leader].writer = 0

    def landed(self, leader: str) -> bytes | None:
        memory = self.memories[leader]
        if not memory.frames:
            return None
        frame = memory.frames.popleft()
        memory.bytes -= len(frame)
        return frame

    def last_landed(self, leader: str) -> int:
        """Index of the last entry that is in our memory and not read yet; 0: none. For the onlooker."""
        memory, last = self.memories.get(leader), 0
        for frame in memory.frames if memory else ():
            message = next(codec.Decoder(1).feed(frame))
            if isinstance(message, wire.Append):
                last = max(last, last_index(message.payload, message.prev_index))
        return last

    def publish(self, leader: str, counters: bytes) -> None:
        self.memories[leader].counters = counters

    # ---- leader -----------------------------------------------------------------------------------
    def accept(self, follower: str, ring: int, offer: bytes) -> bytes:
        end = self.ends[follower] = _End(ring, self.rng.getrandbits(62) | 1)
        return WORD.pack(end.token)

    def close(self, follower: str) -> None:
        self.ends.pop(follower).broken = True

    def write(self, follower: str, frame: bytes) -> int | None:
        end, memory = self.ends[follower], self._memory(follower, self.ends[follower])
        if memory is not None and memory.bytes + len(frame) > RING_BYTES:
            return None
        end.number += 1
        self.loop.after(self._later(end) - self.loop.now, None, self._arrives, follower, end, end.number, frame)
        return end.number

    def read(self, follower: str) -> None:
        end = self.ends[follower]
        self.loop.after(self._later(end) - self.loop.now, None, self._arrives, follower, end, end.number, None)

    def _later(self, end: _End) -> float:
        end.arrival = max(end.arrival, self.loop.now + self.rng.uniform(*LATENCY_S))
        return end.arrival

    # ---- the wire ---------------------------------------------------------------------------------
    def _memory(self, follower: str, end: _End) -> _Memory | None:
        """What ``end`` may write, if its host and ours are there and the process lives."""
        other, hosts = self.world.members[follower], self.world.hosts
        if other.dead or not hosts[follower].on or not hosts[self.member.name].on or other.one_sided is None:
            return None
        memory = other.one_sided.card.memories.get(self.member.name)
        return memory if memory and memory.ring == end.ring and memory.writer == end.token else None

    def _arrives(self, follower: str, end: _End, number: int, frame: bytes | None) -> None:
        """``frame`` None: a read."""
        if end.broken or self.member.dead:
            return
        me, cut = self.member.name, self.world.network.cut_since
        memory = None if (me, follower) in cut else self._memory(follower, end)
        data = b""
        if memory is not None and frame is not None:
            memory.frames.append(frame)
            memory.bytes += len(frame)
            other = self.world.members[follower]
            self.loop.after(self.rng.uniform(*other.one_sided.card.looks_s), other, other.look)
        elif memory is not None:
            data = memory.counters
        if memory is None or (follower, me) in cut:
            end.broken = True
            self.loop.after(FAILS_S, self.member, self.member.card_says, "written", follower, end.ring, number, False)
            return
        end.answer = max(end.answer, self.loop.now + self.rng.uniform(*LATENCY_S))
        what = ("written", follower, end.ring, number, True) if frame is not None else ("counters_read", follower, end.ring, data)
        self.loop.after(end.answer - self.loop.now, self.member, self.member.card_says, *what)
