# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages between members, one frozen class each. :mod:`plover.protocol.codec` turns them into bytes and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

CONTROL, DATA, DISKS, DISKS_KEYED = 0, 1, 3, 4  # channels of Hello; after the greeting, the last two carry NBD (links/streams.py)


@dataclass(frozen=True)
class Message:
    """Base. ``FMT`` describes all fields except a trailing ``payload``."""

    TYPE: ClassVar[int] = 0
    FMT: ClassVar[str] = "!"


@dataclass(frozen=True)
class Hello(Message):
    """First on each connection. Payload: JSON {cluster_id, member, channel, version, timing, nonce, channels}; see links/hello.py."""

    TYPE = 1
    payload: bytes = b""


@dataclass(frozen=True)
class Proof(Message):
    """After Hello, in both directions, if both members have a secret. Payload: see links/auth.py."""

    TYPE = 12
    payload: bytes = b""


@dataclass(frozen=True)
class Heartbeat(Message):
    """Leader -> all. ``truncate``: the log up to this index is no longer needed. Carries the in-sync record, too."""

    TYPE, FMT = 2, "!QQQQQB"
    view: int
    seq: int
    truncate: int
    record_view: int
    record_version: int
    record_in_sync: int


@dataclass(frozen=True)
class HeartbeatAck(Message):
    """Follower -> leader: I am still in this view and hold the log up to ``last_index`` and this record."""

    TYPE, FMT = 3, "!QQQQQ"
    view: int
    seq: int
    last_index: int
    record_view: int
    record_version: int


@dataclass(frozen=True)
class Append(Message):
    """Leader -> all: entries after ``prev_index``. ``reset``: forget the log, start at ``prev_index``."""

    TYPE, FMT = 4, "!QQQ?"
    view: int
    prev_index: int
    prev_view: int
    reset: bool
    payload: bytes = b""


@dataclass(frozen=True)
class AppendAck(Message):
    TYPE, FMT = 5, "!QQ?"
    view: int
    last_index: int
    ok: bool


@dataclass(frozen=True)
class VoteRequest(Message):
    """``pre``: only a question, no vote is recorded. With view 0: the sender has amnesia (consensus/amnesia.py).

    ``transfer``: the leader itself asked the sender to stand.
    """

    TYPE, FMT = 6, "!Q??QQBQQ"
    view: int
    pre: bool
    transfer: bool
    record_view: int
    record_version: int
    record_in_sync: int
    last_view: int
    last_index: int


@dataclass(frozen=True)
class VoteReply(Message):
    """``ahead``: the voter's log is longer; its entries after ``from_index`` (of ``from_view``) are the payload. Payload of a
    refusal: the voter's in-sync record (view, version, mask: !QQB), if it is newer than the candidate's and names it.

    In the refusal of a question with view 0, ``ahead`` means: I lead by force, and nobody has acknowledged that yet.
    """

    TYPE, FMT = 7, "!Q???QQ"
    view: int
    pre: bool
    granted: bool
    ahead: bool
    from_index: int
    from_view: int
    payload: bytes = b""


@dataclass(frozen=True)
class TransferLeadership(Message):
    """Leader -> secondary: stand for election now, you have my vote. Payload: the reason; empty in a switchover."""

    TYPE, FMT = 8, "!Q"
    view: int
    payload: bytes = b""


@dataclass(frozen=True)
class Leave(Message):
    """Secondary -> leader: my copy is gone; drop me from the in-sync set."""

    TYPE, FMT = 9, "!Q"
    view: int
    payload: bytes = b""


@dataclass(frozen=True)
class JoinRequest(Message):
    """Replica without state -> leader: begin an initial sync. Payload: JSON of the settings that must be equal on both sides."""

    TYPE, FMT = 20, "!Q"
    view: int
    payload: bytes = b""


@dataclass(frozen=True)
class JoinRefused(Message):
    TYPE, FMT = 21, "!Q"
    view: int
    payload: bytes = b""


@dataclass(frozen=True)
class FillPages(Message):
    """Pages of the initial sync. Payload: ``count`` page numbers (u32, native order), then the pages."""

    TYPE, FMT = 22, "!QQI"
    view: int
    join: int
    count: int
    payload: bytes = b""


@dataclass(frozen=True)
class FillState(Message):
    """End of the initial sync: the device stream. The VM has consumed the log up to ``index``."""

    TYPE, FMT = 23, "!QQQQ"
    view: int
    join: int
    index: int
    pages_sent: int
    payload: bytes = b""


@dataclass(frozen=True)
class FillDone(Message):
    """Joining replica -> leader: everything is loaded, the VM runs here."""

    TYPE, FMT = 24, "!QQ"
    view: int
    join: int


@dataclass(frozen=True)
class FillCheck(Message):
    """Leader -> a joiner that says "checks": our VM stands still, ``pages_sent`` pages are on their way; hash all of guest memory."""

    TYPE, FMT = 27, "!QQQ"
    view: int
    join: int
    pages_sent: int


@dataclass(frozen=True)
class FillHashes(Message):
    """Joining replica -> leader: CityHash64 of each page, ascending, in as many messages as needed."""

    TYPE, FMT = 28, "!QQ"
    view: int
    join: int
    payload: bytes = b""


@dataclass(frozen=True)
class Bitmap(Message):
    """Dirty bitmap of one side, packed if that is shorter. ``audit``: 1 = hash every page, not just the union; 2 = the disks too."""

    TYPE, FMT = 30, "!QQB"
    view: int
    number: int
    audit: int
    payload: bytes = b""


@dataclass(frozen=True)
class Hashes(Message):
    """Secondary -> leader: CityHash64 of each page, ascending. ``after``: the second hashes of an audit, after applying."""

    TYPE, FMT = 31, "!QQ?"
    view: int
    number: int
    after: bool
    payload: bytes = b""


@dataclass(frozen=True)
class StagePages(Message):
    """Leader -> secondary's staging buffer. Payload as in FillPages."""

    TYPE, FMT = 32, "!QQI"
    view: int
    number: int
    count: int
    payload: bytes = b""


@dataclass(frozen=True)
class Divergent(Message):
    """Leader -> secondary: send the block hashes of these pages. Payload: a bitmap over the pages that were hashed."""

    TYPE, FMT = 38, "!QQ"
    view: int
    number: int
    payload: bytes = b""


@dataclass(frozen=True)
class BlockHashes(Message):
    """Secondary -> leader: 16-bit hashes of all blocks of all divergent pages."""

    TYPE, FMT = 39, "!QQ"
    view: int
    number: int
    payload: bytes = b""


@dataclass(frozen=True)
class StageBlocks(Message):
    """Leader -> secondary's staging buffer: the block deltas of the next ``count`` divergent pages.

    Payload, packed: ``count`` masks of blocks (u64, native order), ``count`` hashes of the pages (u64), then the blocks.
    """

    TYPE, FMT = 40, "!QQI"
    view: int
    number: int
    count: int
    payload: bytes = b""


@dataclass(frozen=True)
class StageEnd(Message):
    """The syncvm is complete, with ``pages`` staged pages. ``digest`` covers them and the device state.
    Payload: the device state of ``size`` bytes, packed. ``base``: digest of the device state with which it was XORed; 0: none.
    """

    TYPE, FMT = 33, "!QQIQQI"
    view: int
    number: int
    pages: int
    digest: int
    base: int
    size: int
    payload: bytes = b""


@dataclass(frozen=True)
class Resend(Message):
    """Secondary -> leader, at most once, instead of Staged: send these pages (u32) whole; ``device``: the device state, too."""

    TYPE, FMT = 41, "!QQ?"
    view: int
    number: int
    device: bool
    payload: bytes = b""


@dataclass(frozen=True)
class Staged(Message):
    """Secondary -> leader: all of syncvm ``number`` is here and verified."""

    TYPE, FMT = 34, "!QQ"
    view: int
    number: int


@dataclass(frozen=True)
class Applied(Message):
    """Secondary -> leader: loaded and running again."""

    TYPE, FMT = 35, "!QQ"
    view: int
    number: int


@dataclass(frozen=True)
class Said(Message):
    """Secondary -> leader: what our VM has said since it loaded syncvm ``number`` (protocol/sayings.py). Leader -> a secondary
    whose JoinRequest says "says", without a payload: tell me what your VM says once it has loaded syncvm ``number``."""

    TYPE, FMT = 42, "!QQ"
    view: int
    number: int
    payload: bytes = b""


@dataclass(frozen=True)
class DiskHashes(Message):
    """Secondary -> leader, in an audit with disks, after applying: CityHash64 of each image block."""

    TYPE, FMT = 37, "!QQ"
    view: int
    number: int
    payload: bytes = b""


@dataclass(frozen=True)
class LateInput(Message):
    """Former leader -> new leader, after a handover: frames for the VM that still arrived here."""

    TYPE, FMT = 36, "!Q"
    view: int
    payload: bytes = b""


@dataclass(frozen=True)
class ProposeRecord(Message):
    """Leader -> all: store this in-sync record on disk, then answer with HeartbeatAck."""

    TYPE, FMT = 10, "!QQQB"
    view: int
    record_view: int
    record_version: int
    record_in_sync: int


@dataclass(frozen=True)
class RingOffer(Message):
    """Follower -> its leader: ring ``ring`` is yours in this view. Payload: its place, for the network card."""

    TYPE, FMT = 50, "!QQ"
    view: int
    ring: int
    payload: bytes = b""


@dataclass(frozen=True)
class RingAccept(Message):
    """Leader -> follower: from now on I write there, and send no more log messages. Payload: the address of the writer's card."""

    TYPE, FMT = 51, "!QQ"
    view: int
    ring: int
    payload: bytes = b""


@dataclass(frozen=True)
class RingReady(Message):
    """Follower -> leader: I have read all earlier messages; write."""

    TYPE, FMT = 52, "!QQ"
    view: int
    ring: int


@dataclass(frozen=True)
class PipeAddress(Message):
    """First on a data channel with RDMA, after the greeting, in both directions. Payload: the place of our ring, for the card."""

    TYPE = 53
    payload: bytes = b""


@dataclass(frozen=True)
class PipeReady(Message):
    """We are connected; from now on we write this channel's messages into your ring."""

    TYPE = 54


GREETINGS = (Hello, Proof, PipeAddress, PipeReady)
