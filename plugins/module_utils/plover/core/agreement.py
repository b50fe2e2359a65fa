# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the output that the secondary's VM has said, too, since the last syncvm. Such output may leave. Pure.

Both VMs get the same input in the same order, so they mostly give the same answers. The secondary tells what its VM says
(protocol/sayings.py), and the leader compares. Whatever a client saw, the secondary's VM has then said before it left. So a
failover goes on with a VM that stands by all of it.

* TCP, per flow, by sequence number: the same bytes up to the segment's end. The secondary's VM has also acknowledged at least as
  much as the segment does: else a client would not send again what that VM never got.
* Anything else that can be compared: the whole packet, as often as the secondary's VM has sent it.

A difference ends the agreement on its flow until the next syncvm. What cannot be compared waits for a syncvm, and whatever comes
after it on the same flow does so too.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque

from ..protocol.sayings import Saying
from ..protocol.segments import Packet, Segment, after, digest, parse

FLOWS_MAX = 16_384  # others wait for syncvms
AHEAD_MAX = 256  # of a flow: sayings of the secondary that the leader's VM has not said yet
PACKETS_MAX = 4096  # the same of packets


class Flow:
    """One direction of a TCP connection since the last syncvm. Numbers are sequence numbers of TCP."""

    def __init__(self, acked: int | None = None) -> None:
        """``acked``: what the secondary's VM has acknowledged already; None: not known."""
        self.acked = self.told = acked  # ``told``: the highest acknowledgement of the leader's VM
        self.agreed: int | None = None  # up to here both have said the same; None: the leader's VM has said nothing yet
        self.blocked = False  # nothing more can be compared
        self._said = bytearray()  # by the leader's VM, from ``agreed`` on; a FIN counts as a zero byte
        self._waiting: deque[tuple[int, Segment]] = deque()
        self._ahead: deque[Saying] = deque()

    def hold(self, number: int, segment: Segment) -> bool:
        """The leader's VM says ``segment``. False: it must wait for a syncvm."""
        if self.told is None or after(segment.acks, self.told) > 0:
            self.told = segment.acks
        if self.agreed is None:
            self.agreed = segment.start
        if after(segment.start, self.agreed) != len(self._said):
            self.blocked = True  # sent again, or something is missing: rare, and left to a syncvm
        if not self.blocked:
            self._said += segment.payload + b"\0" * segment.fin
            self._waiting.append((number, segment._replace(payload=b"")))
        return not self.blocked

    def hear(self, saying: Saying) -> None:
        """The secondary's VM has said so."""
        if self.acked is None or after(saying.acks, self.acked) > 0:
            self.acked = saying.acks
        if saying.start != saying.end:
            self._ahead.append(saying)
            self.blocked = self.blocked or len(self._ahead) > AHEAD_MAX

    def compare(self) -> bool:
        """Compare what both have said by now. False: they differ."""
        while self._ahead and self.agreed is not None and not self.blocked:
            saying = self._ahead[0]
            if after(saying.end, self.agreed) > 0:  # else it was sent again
                if saying.start == self.agreed and after(saying.end, saying.start) > len(self._said):
                    return True  # the leader's VM has not said all of it yet
                self.blocked = not self._alike(saying)
                if self.blocked:
                    return False
                del self._said[: after(saying.end, saying.start)]
                self.agreed = saying.end
            self._ahead.popleft()
        return True

    def _alike(self, saying: Saying) -> bool:
        ours = bytes(self._said[: after(saying.end, saying.start)])
        ends = any(segment.fin and segment.end == saying.end for _number, segment in self._waiting)
        return saying.start == self.agreed and saying.digest == digest(ours) and saying.fin == ends

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


class Agreement:
    """Since the last stop of a syncvm. Frames are known by numbers, which their owner gives."""

    def __init__(self) -> None:
        self.open = False  # the secondary has staged that syncvm, so what it says comes from its state
        self.differs = False  # a syncvm is due
        self._flows: dict[int, Flow] = {}
        self._acked: dict[int, int] = {}  # by flow: what the secondary's VM had acknowledged when it loaded the last syncvm
        self._changed: dict[int, Flow] = {}
        self._waiting: defaultdict[int, deque[int]] = defaultdict(deque)  # packets of the leader's VM, by digest
        self._ahead: Counter[int] = Counter()  # packets that only the secondary's VM has sent yet

    def begin(self) -> None:
        """Our VM stands still for a syncvm. What it has said up to here waits for that; what it has acknowledged, the
        secondary's VM has acknowledged as well once it has loaded."""
        for key, flow in self._flows.items():
            if flow.told is not None:
                self._acked.pop(key, None)  # the flows that spoke last are kept longest
                self._acked[key] = flow.told
        for key in list(self._acked)[: max(0, len(self._acked) - FLOWS_MAX)]:
            del self._acked[key]
        self._forget()

    def void(self) -> None:
        """Another view, or another secondary: nothing is agreed on before the next syncvm."""
        self._forget()
        self._acked = {}

    def _forget(self) -> None:
        self.open = self.differs = False
        self._flows, self._changed = {}, {}
        self._waiting.clear()
        self._ahead.clear()

    def hold(self, number: int, frame: bytes) -> bool:
        """Our VM sends ``frame``. False: it must wait for a syncvm."""
        what = parse(frame)
        if isinstance(what, Packet):
            self._waiting[what.digest].append(number)
            return True
        if not what.flow:
            return False
        flow = self._flow(digest(what.flow))
        if isinstance(what, Segment):
            return flow.hold(number, what)
        flow.blocked = True
        return False

    def _flow(self, key: int) -> Flow:
        flow = self._flows.get(key)
        if flow is None:
            flow = Flow(self._acked.get(key))
            if len(self._flows) >= FLOWS_MAX:
                flow.blocked = True
                return flow
            self._flows[key] = flow
        self._changed[key] = flow
        return flow

    def hear(self, sayings: list[Saying]) -> None:
        """What the secondary's VM has said since it loaded the last syncvm."""
        for saying in sayings:
            if saying.flow:
                self._flow(saying.flow).hear(saying)
            elif len(self._ahead) < PACKETS_MAX:
                self._ahead[saying.digest] += 1

    def leaving(self) -> list[int]:
        """Numbers of the frames that may leave now; in order, as far as they are of one flow."""
        out: list[int] = []
        if not self.open:
            return out
        for flow in self._changed.values():
            self.differs = not flow.compare() or self.differs
            out += flow.leaving()
        self._changed = {}
        for key in self._ahead.keys() & self._waiting.keys():
            while self._ahead[key] and self._waiting[key]:
                out.append(self._waiting[key].popleft())
                self._ahead[key] -= 1
            if not self._ahead[key]:
                del self._ahead[key]
            if not self._waiting[key]:
                del self._waiting[key]
        return out
