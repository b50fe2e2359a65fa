# SPDX-License-Identifier: GPL-3.0-or-later
"""Log replication by one-sided writes: the leader's side and the follower's. Sans-I/O, beside :mod:`plover.consensus.consensus`.

The leader writes its messages (heartbeats, entries, records) into a ring in the follower's memory. An entry is committed
once the network card says that it has arrived there, so the follower's scheduler is not on the path (paper §3.1). The
follower finds the messages when it polls, and answers by counters in its own memory, which the leader reads. The counters
move only while the follower really works. Everything else goes by messages, and so does everything while there is no ring.

A ring belongs to one leader in one view. A member that is about to vote, to stand for election or to follow another view
first revokes the permission to write (:meth:`OneSided.seal`), then reads the frames that had landed. From then on an old
leader's write fails at the card, and every write that the card reported as complete has been counted. So the completion of
a write also acknowledges the view, as of the moment when the write was posted.

Setting up a ring: offer (follower), accept (leader; its last message), ready (follower: it has read all earlier messages).
A follower that hears its leader by message offers a ring, so a broken ring is replaced.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ..errors import WireError
from ..protocol import codec, wire
from .consensus import Consensus
from .effects import LEADER
from .log import last_index

LEADER_SAYS = (wire.Heartbeat, wire.Append, wire.ProposeRecord)
FOLLOWER_SAYS = (wire.HeartbeatAck, wire.AppendAck)
OFFER_AGAIN_S = 0.2  # shortest time between two offers to the same leader
ACCEPT_S = 0.2  # a leader waits this long for a follower's "ready" and sends it nothing meanwhile
UNREAD_MAX = 4096  # writes under way to one follower


class Counters(NamedTuple):
    """A follower's answers, in its own memory: the last HeartbeatAck, the last AppendAck, and the number of AppendAcks."""

    ring: int
    seq: int
    last_index: int
    record_view: int
    record_version: int
    appended: int
    append_ok: int
    appends: int

    def packed(self) -> bytes:
        """With a check word, because the leader may read while the follower writes."""
        words = _WORDS.pack(*self)
        return words + _CHECK.pack(zlib.crc32(words))

    @classmethod
    def unpacked(cls, data: bytes) -> Counters | None:
        """None: they were being written."""
        words = data[: _WORDS.size]
        return cls(*_WORDS.unpack(words)) if data[_WORDS.size :] == _CHECK.pack(zlib.crc32(words)) else None


_WORDS, _CHECK = struct.Struct("<8Q"), struct.Struct("<Q")
COUNTERS_BYTES = _WORDS.size + _CHECK.size
NOTHING = Counters(*[0] * 8)


class Card(Protocol):
    """The network card. Operations that take time end with an event."""

    def offer(self, leader: str, ring: int) -> bytes | None:
        """Make a ring for ``leader``, which cannot write into it yet. Returns its place; None: it cannot be made now."""

    def open(self, leader: str, answer: bytes) -> bool:
        """Let ``leader``'s card, which ``answer`` names, write into the ring."""

    def revoke(self, leader: str) -> None:
        """Nothing lands in the ring after this call."""

    def landed(self, leader: str) -> bytes | None:
        """The next whole frame in the ring; None: there is none yet."""

    def publish(self, leader: str, counters: bytes) -> None:
        """Put the counters where ``leader`` reads them."""

    def accept(self, follower: str, ring: int, offer: bytes) -> bytes | None:
        """Connect to the follower's ring. Returns our own address for it; None: it cannot be done."""

    def write(self, follower: str, frame: bytes) -> int | None:
        """Write a frame. Returns its number; written(follower, ring, number, ok) follows, in order. None: there is no room."""

    def read(self, follower: str) -> None:
        """Read the follower's counters; counters_read(follower, ring, counters) follows."""

    def close(self, follower: str) -> None:
        """Close our connection to the follower's ring."""


class _Grant:
    """Our ring that a leader may write."""

    def __init__(self, leader: str, view: int, ring: int, now: float) -> None:
        self.leader, self.view, self.ring, self.since = leader, view, ring, now
        self.open = False
        self.counters = NOTHING._replace(ring=ring)


class _Ring:
    """A follower's ring, as the leader sees it."""

    def __init__(self, view: int, ring: int, now: float) -> None:
        self.view, self.ring, self.since = view, ring, now
        self.ready = False
        # The follower itself has confirmed entries that we wrote. Until then its log may differ from ours where they begin.
        self.agrees = False
        self.first: int | None = None  # last index of the first Append that was written
        self.under_way: deque[tuple[int, int, int]] = deque()  # number of the write, last index, heartbeat
        self.landed = 0  # the last index that has arrived in its memory
        self.seen = NOTHING
        self.stalled = False


class OneSided:
    def __init__(self, consensus: Consensus, card: Card, tag: int, deliver: Callable[[str, wire.Message], None], boot: int) -> None:
        """``deliver(member, message)``: to the owner of ``consensus``, one message at a time. ``boot``: a number that no earlier
        run of this daemon has used, so that a ring of an earlier run is never taken for ours.
        """
        self.consensus, self.card, self.tag, self.deliver = consensus, card, tag, deliver
        self.grants: dict[str, _Grant] = {}
        self.rings: dict[str, _Ring] = {}
        self._ring = boot << 24
        self._now = 0.0
        self._offered_at: dict[str, float] = {}
        self._by_message: list[tuple[str, wire.Message]] = []
        self._refused: list[tuple[str, WireError]] = []
        consensus.seal = self.seal

    def take(self) -> list[tuple[str, wire.Message]]:
        """(to, message) pairs to send, in order."""
        out, self._by_message = self._by_message, []
        return out

    def refused(self) -> list[tuple[str, WireError]]:
        """Members whose writes, or whose counters, made no sense since the last call. Their links are to be closed.

        Returned instead of raised: the card's events and :meth:`seal` have no message whose link could be closed, and a seal
        must go on to its end.
        """
        out, self._refused = self._refused, []
        return out

    # ---- messages of our consensus --------------------------------------------------------------------
    def send(self, now: float, to: str, message: wire.Message) -> None:
        self._now = now
        if isinstance(message, LEADER_SAYS) and (ring := self._leading_ring(to)):
            if ring.ready:
                self._write(to, ring, message)
            return  # not ready: the consensus sends it again when it is
        grant = self.grants.get(to)
        if isinstance(message, FOLLOWER_SAYS) and grant and grant.open and message.view == grant.view:
            self._publish(grant, message)
            return
        self._by_message.append((to, message))

    def _leading_ring(self, to: str) -> _Ring | None:
        ring, cons = self.rings.get(to), self.consensus
        if ring and (cons.role != LEADER or ring.view != cons.view):
            self._drop_ring(to)
            return None
        return ring

    def _write(self, to: str, ring: _Ring, message: wire.Message) -> None:
        number = None
        if len(ring.under_way) < UNREAD_MAX:
            number = self.card.write(to, b"".join(map(bytes, codec.encode(message, self.tag))))
        if number is None:
            ring.stalled = True  # the consensus sends it again once there is room
            return
        index = seq = 0
        if isinstance(message, wire.Append):
            index = last_index(message.payload, message.prev_index)
            if message.reset or ring.first is None:
                ring.first = index
        elif isinstance(message, wire.Heartbeat):
            seq = message.seq
        ring.under_way.append((number, index, seq))
        if not isinstance(message, wire.Append) or not ring.agrees:
            self.card.read(to)

    def _publish(self, grant: _Grant, message: wire.HeartbeatAck | wire.AppendAck) -> None:
        if isinstance(message, wire.HeartbeatAck):
            grant.counters = grant.counters._replace(
                seq=max(message.seq, grant.counters.seq),
                last_index=message.last_index,
                record_view=message.record_view,
                record_version=message.record_version,
            )
        else:
            grant.counters = grant.counters._replace(
                appended=message.last_index, append_ok=int(message.ok), appends=grant.counters.appends + 1
            )
        self.card.publish(grant.leader, grant.counters.packed())

    # ---- received messages ----------------------------------------------------------------------------
    def receive(self, now: float, src: str, message: wire.Message) -> None:
        self._now = now
        if isinstance(message, wire.RingOffer):
            self._on_offer(src, message)
        elif isinstance(message, wire.RingAccept):
            self._on_accept(src, message)
        elif isinstance(message, wire.RingReady):
            self._on_ready(src, message)
        else:
            self.deliver(src, message)
            self._heard(now, src, message)

    def connected(self, src: str) -> None:
        """A new connection for messages: the member may have restarted and lost its ring. It will offer another."""
        self._drop_ring(src)

    def _heard(self, now: float, src: str, message: wire.Message) -> None:
        """After a message: offer our leader a ring if it has none, or no longer uses ours."""
        cons = self.consensus
        if not isinstance(message, LEADER_SAYS) or cons.leader != src or message.view != cons.view:
            return
        grant = self.grants.get(src)
        if grant and grant.open:  # it gave up our ring; our answers go by message again
            self._end_grant(src)
        if now - self._offered_at.get(src, float("-inf")) < OFFER_AGAIN_S:
            return
        self._offered_at[src] = now
        self._end_grant(src)
        self._ring += 1
        offer = self.card.offer(src, self._ring)
        if offer is not None:
            self.grants[src] = _Grant(src, cons.view, self._ring, now)
            self._by_message.append((src, wire.RingOffer(cons.view, self._ring, offer)))

    def _on_offer(self, src: str, m: wire.RingOffer) -> None:
        cons = self.consensus
        if cons.role != LEADER or m.view != cons.view:
            return
        self._drop_ring(src)
        answer = self.card.accept(src, m.ring, m.payload)
        if answer is not None:
            self.rings[src] = _Ring(m.view, m.ring, self._now)
            self._by_message.append((src, wire.RingAccept(m.view, m.ring, answer)))

    def _on_accept(self, src: str, m: wire.RingAccept) -> None:
        grant = self.grants.get(src)
        if not grant or grant.ring != m.ring or grant.open or grant.view != self.consensus.view:
            return  # sealed since, or replaced by a newer offer
        if self.card.open(src, m.payload):
            grant.open = True
            self.card.publish(src, grant.counters.packed())
            self._by_message.append((src, wire.RingReady(m.view, m.ring)))

    def _on_ready(self, src: str, m: wire.RingReady) -> None:
        ring = self._leading_ring(src)
        if ring and ring.ring == m.ring and not ring.ready:
            ring.ready = True
            self.consensus.connected(src)  # send again all messages since our accept

    # ---- the follower's side --------------------------------------------------------------------------
    def poll(self, now: float) -> bool:
        """Deliver the frames that leaders wrote. True if there were any."""
        self._now = now
        found = False
        for grant in list(self.grants.values()):
            while self.grants.get(grant.leader) is grant and (frame := self.card.landed(grant.leader)) is not None:
                found = True
                try:
                    self.deliver(grant.leader, self._decoded(frame))  # it may seal, which delivers the remaining frames
                except WireError as error:
                    self._refused.append((grant.leader, error))
                    self._end_grant(grant.leader)
        return found

    def seal(self, now: float) -> None:
        """End all writes to us and count those that have landed. Called before we vote, stand, or enter another view."""
        self._now = now
        for leader in list(self.grants):
            self._end_grant(leader)

    def _end_grant(self, leader: str) -> None:
        grant = self.grants.pop(leader, None)
        if grant is None:
            return
        self.card.revoke(leader)
        try:
            while (frame := self.card.landed(leader)) is not None:
                self.consensus.receive(self._now, leader, self._decoded(frame))
        except WireError as error:
            self._refused.append((leader, error))

    def _decoded(self, frame: bytes) -> wire.Message:
        decoder = codec.Decoder(self.tag)
        messages = list(decoder.feed(frame))
        decoder.end()
        if len(messages) != 1 or not isinstance(messages[0], LEADER_SAYS):
            raise WireError("a ring holds something that no leader writes")
        return messages[0]

    # ---- the leader's side ----------------------------------------------------------------------------
    def written(self, now: float, src: str, ring_id: int, number: int, ok: bool) -> None:
        """The card has completed write ``number`` and all before it, or (not ``ok``) has failed."""
        self._now = now
        ring = self.rings.get(src)
        if ring is None or ring.ring != ring_id:
            return
        if not ok:
            self._drop_ring(src)
            if self.consensus.role == LEADER:
                self.consensus.connected(src)  # writes under way may be lost
            return
        seq = 0
        while ring.under_way and ring.under_way[0][0] <= number:
            _number, last, beat = ring.under_way.popleft()
            ring.landed, seq = max(ring.landed, last), max(seq, beat)
        self.consensus.stored(src, ring.view, ring.landed if ring.agrees else 0, seq)

    def counters_read(self, now: float, src: str, ring_id: int, data: bytes) -> None:
        self._now = now
        ring = self._leading_ring(src)
        if ring is None or ring.ring != ring_id:
            return
        if ring.stalled:  # it may have made room
            ring.stalled = False
            self.consensus.connected(src)
        now_seen, seen = Counters.unpacked(data), ring.seen
        if now_seen is None or now_seen.ring != ring_id or now_seen == seen:
            return  # nothing new, or it is writing just now: a later read tells
        ring.seen = now_seen
        try:
            self._tell(src, ring, now_seen, seen)
        except WireError as error:
            self._refused.append((src, error))
            self._drop_ring(src)

    def _tell(self, src: str, ring: _Ring, now_seen: Counters, seen: Counters) -> None:
        """What the counters say, as the messages that they stand for."""
        if now_seen[:5] != seen[:5]:
            self.deliver(
                src, wire.HeartbeatAck(ring.view, now_seen.seq, now_seen.last_index, now_seen.record_view, now_seen.record_version)
            )
        if now_seen.appends != seen.appends:
            ok = bool(now_seen.append_ok)
            if not ok:
                ring.first, ring.agrees = None, False
            elif ring.first is not None and now_seen.appended >= ring.first and not ring.agrees:
                ring.agrees = True
                self.consensus.stored(src, ring.view, ring.landed, 0)
            self.deliver(src, wire.AppendAck(ring.view, now_seen.appended, ok))

    def tick(self, now: float) -> None:
        self._now = now
        for follower in list(self.rings):
            ring = self._leading_ring(follower)
            if ring and ring.ready and (ring.stalled or not (ring.agrees and self.consensus.record_committed)):
                self.card.read(follower)  # we wait for its answer
            elif ring and not ring.ready and now - ring.since > ACCEPT_S:
                self._drop_ring(follower)  # its "ready" is lost: go on by message, so that it offers another ring
                self.consensus.connected(follower)

    def _drop_ring(self, follower: str) -> None:
        if self.rings.pop(follower, None):
            self.card.close(follower)

    def close(self) -> None:
        for follower in list(self.rings):
            self._drop_ring(follower)
        for leader in list(self.grants):
            self.grants.pop(leader)
            self.card.revoke(leader)
