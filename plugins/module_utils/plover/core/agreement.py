# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the output that the secondary's VM has said, too, since the last syncvm. Such output may leave. Pure.

Both VMs get the same input in the same order, so they mostly give the same answers. The secondary tells what its VM says
(protocol/sayings.py), and the leader compares. Whatever a client saw, the secondary's VM has then said before it left. So a
failover goes on with a VM that stands by all of it.

* TCP, per flow, by sequence number: the same bytes up to the segment's end. The secondary's VM has also acknowledged at least as
  much as the segment does: else a client would not send again what that VM never got.
* Anything else that can be compared: whole packets, per flow, in the order in which both VMs send them. So none overtakes
  another, and after a failover the new leader, which sends again what it has since the last syncvm, tells nothing older anew.

A difference ends the agreement on its flow until the next syncvm. What cannot be compared waits for a syncvm, and whatever comes
after it on the same flow does so too.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..protocol.frames import split
from ..protocol.sayings import BEGINS, ENDS, OTHER, Saying, unpack
from ..protocol.segments import Packet, Segment, after, digest, parse

FLOWS_MAX = 16_384  # others wait for syncvms
AHEAD_MAX = 65_536  # sayings of the secondary that the leader's VM has not said yet; then all flows of further ones wait
# Why a frame must wait for a syncvm:
CONNECTION = "connection"  # it begins or resets one
AGAIN = "again"  # sent again, or something before it is missing
UNKNOWN = "unknown"
FOLLOWS = "follows"  # another frame of its flow must wait
# What differs:
BYTES, END, PLACE = "bytes", "end", "place"  # the payload; whether the stream ends; the sequence number


class Flow:
    """One direction of a TCP connection since the last syncvm. Numbers are sequence numbers of TCP."""

    def __init__(self, acked: int | None = None) -> None:
        """``acked``: what the secondary's VM has acknowledged already; None: not known."""
        self.acked = self.told = acked  # ``told``: the highest acknowledgement of the leader's VM
        self.agreed: int | None = None  # up to here both have said the same; None: the leader's VM has said nothing yet
        self.blocked = False  # nothing more can be compared
        self.ahead: deque[Saying] = deque()
        self._said = bytearray()  # by the leader's VM, from ``agreed`` on; a FIN counts as a zero byte
        self._waiting: deque[tuple[int, Segment]] = deque()

    def block(self) -> None:
        self.blocked = True
        self.ahead.clear()
        self._said.clear()

    def begins(self) -> str:
        """A new connection of the same ports may begin: what was acknowledged on the old one says nothing about it."""
        self.block()
        self._waiting.clear()
        self.acked = self.told = None
        return CONNECTION

    def hold(self, number: int, segment: Segment) -> str:
        """The leader's VM says ``segment``. Returns why it must wait for a syncvm; empty if it need not."""
        if self.told is None or after(segment.acks, self.told) > 0:
            self.told = segment.acks
        if self.blocked:
            return FOLLOWS
        if self.agreed is None:
            self.agreed = segment.start
        if after(segment.start, self.agreed) != len(self._said):
            self.block()
            return AGAIN
        self._said += segment.payload + b"\0" * segment.fin
        self._waiting.append((number, segment._replace(payload=b"")))
        return ""

    def hear(self, saying: Saying) -> None:
        """The secondary's VM has said so."""
        if self.acked is None or after(saying.acks, self.acked) > 0:
            self.acked = saying.acks
        if saying.start != saying.end and not self.blocked:
            self.ahead.append(saying)

    def compare(self) -> str:
        """Compare what both have said by now. Returns what differs; empty if nothing does."""
        while self.ahead and self.agreed is not None:
            saying = self.ahead[0]
            if after(saying.end, self.agreed) > 0:  # else it was sent again
                count = after(saying.end, saying.start)
                if saying.start == self.agreed and count > len(self._said):
                    return ""  # the leader's VM has not said all of it yet
                differs = self._difference(saying, bytes(self._said[:count]))
                if differs:
                    self.block()
                    return differs
                del self._said[:count]
                self.agreed = saying.end
            self.ahead.popleft()
        return ""

    def _difference(self, saying: Saying, ours: bytes) -> str:
        if saying.start != self.agreed:
            return PLACE
        if (saying.kind == ENDS) != any(segment.fin and segment.end == saying.end for _number, segment in self._waiting):
            return END
        return "" if saying.digest == digest(ours) else BYTES

    def leaving(self) -> list[int]:
        """Numbers of the segments that may leave now, in order."""
        out = []
        while self._waiting and self.agreed is not None and self.acked is not None:
            number, segment = self._waiting[0]
            if after(segment.end, self.agreed) > 0 or after(segment.acks, self.acked) > 0:
                break
            out.append(number)
            self._waiting.popleft()
        return out


class PacketFlow:
    """Packets that are not of TCP, from one sender to one receiver, since the last syncvm."""

    def __init__(self) -> None:
        self.blocked = False  # nothing more can be compared
        self.ahead: deque[int] = deque()  # digests
        self._waiting: deque[tuple[int, int]] = deque()  # number, digest

    def block(self) -> None:
        self.blocked = True
        self.ahead.clear()
        self._waiting.clear()

    def hold(self, number: int, packet: int) -> str:
        """The leader's VM sends ``packet``. Returns why it must wait for a syncvm; empty if it need not."""
        if self.blocked:
            return FOLLOWS
        self._waiting.append((number, packet))
        return ""

    def hear(self, packet: int) -> None:
        """The secondary's VM has sent it."""
        if not self.blocked:
            self.ahead.append(packet)

    def leaving(self) -> tuple[list[int], str]:
        """(numbers of those that may leave now, in order; what differs, or nothing)."""
        out: list[int] = []
        while self.ahead and self._waiting:
            if self.ahead[0] != self._waiting[0][1]:
                self.block()
                return out, BYTES
            self.ahead.popleft()
            out.append(self._waiting.popleft()[0])
        return out, ""


class Agreement:
    """Since the last stop of a syncvm. Frames are known by numbers, which their owner gives. The port of ports/comparison.py."""

    def __init__(self) -> None:
        self.is_open = False
        self.differences: Counter[str] = Counter()
        self._flows: dict[int, Flow] = {}
        self._acked: dict[int, int] = {}  # by flow: what the secondary's VM had acknowledged when it loaded the last syncvm
        self._changed: dict[int, Flow] = {}
        self._ahead = 0  # sayings that the leader's VM has not said yet
        self._packets: dict[int, PacketFlow] = {}
        self._packets_changed: dict[int, PacketFlow] = {}

    def open(self) -> None:
        self.is_open = True

    def begin(self) -> None:
        """Our VM stands still for a syncvm. What it has said up to here waits for that. What it has acknowledged, the
        secondary's VM has acknowledged as well once it has loaded."""
        for key, flow in self._flows.items():
            self._acked.pop(key, None)
            if flow.told is not None:
                self._acked[key] = flow.told  # flows that spoke last are kept longest
        for key in list(self._acked)[: max(0, len(self._acked) - FLOWS_MAX)]:
            del self._acked[key]
        self._forget()

    def void(self) -> None:
        self._forget()
        self._acked = {}

    def _forget(self) -> None:
        self.is_open, self.differences, self._ahead = False, Counter(), 0
        self._flows, self._changed = {}, {}
        self._packets, self._packets_changed = {}, {}

    def hold_run(self, numbers: array[int], run: bytes) -> list[str]:
        out = []
        for number, frame in zip(numbers, map(bytes, split(run)), strict=True):
            if number:
                out.append(self.hold(number, frame))
            else:
                self.lost(frame)
        return list(filter(None, out))

    def hold(self, number: int, frame: bytes) -> str:
        """Our VM sends ``frame``. Returns why it must wait for a syncvm; empty if it need not."""
        what = parse(frame)
        if isinstance(what, Packet):
            packets = self._packets_of(digest(what.flow))
            return packets.hold(number, what.digest) if packets else UNKNOWN
        if not what.flow:
            return UNKNOWN
        with self._flow(digest(what.flow)) as flow:
            return flow.hold(number, what) if isinstance(what, Segment) else flow.begins()

    def lost(self, frame: bytes) -> None:
        """Our VM has sent ``frame``, and nobody keeps it."""
        what = parse(frame)
        if isinstance(what, Packet):
            packets = self._packets_of(digest(what.flow))
            if packets:
                self._ahead -= len(packets.ahead)
                packets.block()
        elif what.flow:
            with self._flow(digest(what.flow)) as flow:
                flow.begins()

    def _packets_of(self, key: int) -> PacketFlow | None:
        """The flow, which something happens to; None if there are too many."""
        if key not in self._packets:
            if len(self._packets) >= FLOWS_MAX:
                return None
            self._packets[key] = PacketFlow()
        packets = self._packets_changed[key] = self._packets[key]
        return packets

    @contextmanager
    def _flow(self, key: int) -> Iterator[Flow]:
        """The flow, which something happens to."""
        flow = self._flows.get(key) or Flow(self._acked.get(key))
        before = len(flow.ahead)
        if key in self._flows or len(self._flows) < FLOWS_MAX:
            self._flows[key] = self._changed[key] = flow
        else:
            flow.block()
            self._acked.pop(key, None)  # nobody keeps what it acknowledges from here on
        yield flow
        self._ahead += len(flow.ahead) - before

    def hear_packed(self, told: bytes) -> None:
        self.hear(unpack(told))

    def hear(self, sayings: list[Saying]) -> None:
        """What the secondary's VM has said since it loaded the last syncvm."""
        for saying in sayings:
            if saying.kind == OTHER:
                self._hear_packet(saying)
                continue
            with self._flow(saying.flow) as flow:
                if saying.kind == BEGINS:
                    flow.begins()
                elif self._ahead < AHEAD_MAX:
                    flow.hear(saying)
                else:
                    flow.block()

    def _hear_packet(self, saying: Saying) -> None:
        packets = self._packets_of(saying.flow)
        if packets is None:
            return
        before = len(packets.ahead)
        if self._ahead < AHEAD_MAX:
            packets.hear(saying.digest)
        else:
            packets.block()
        self._ahead += len(packets.ahead) - before

    def leaving(self) -> list[int]:
        out: list[int] = []
        if not self.is_open:
            return out
        for key in list(self._changed):
            with self._flow(key) as flow:
                differs = flow.compare()
                out += flow.leaving()
            if differs:
                self.differences[differs] += 1
        self._changed = {}
        return out + self._packets_leaving()

    def _packets_leaving(self) -> list[int]:
        out: list[int] = []
        for packets in self._packets_changed.values():
            before = len(packets.ahead)
            leave, differs = packets.leaving()
            self._ahead += len(packets.ahead) - before
            out += leave
            if differs:
                self.differences[differs] += 1
        self._packets_changed = {}
        return sorted(out)
