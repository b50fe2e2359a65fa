# SPDX-License-Identifier: GPL-3.0-or-later
"""What members say to each other: one frozen class per message. How they become bytes: :mod:`plover.protocol.codec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

CONTROL, DATA = 0, 1  # channels of Hello


@dataclass(frozen=True)
class Message:
    """Base: ``FMT`` describes all fields but a trailing ``payload``."""

    TYPE: ClassVar[int] = 0
    FMT: ClassVar[str] = "!"


@dataclass(frozen=True)
class Hello(Message):
    """First on each connection. Payload: JSON {cluster_id, member, channel, version, nonce}; see :mod:`auth`."""

    TYPE = 1
    payload: bytes = b""


@dataclass(frozen=True)
class Proof(Message):
    """After Hello, where both have a secret, both ways. Payload: see :mod:`auth`."""

    TYPE = 12
    payload: bytes = b""


@dataclass(frozen=True)
class Heartbeat(Message):
    """Leader -> all. ``truncate``: the log up to here is no longer needed. The record rides along."""

    TYPE, FMT = 2, "!QQQQQB"
    view: int
    seq: int
    truncate: int
    record_view: int
    record_version: int
    record_in_sync: int


@dataclass(frozen=True)
class HeartbeatAck(Message):
    """Follower -> leader: this view is still mine, I hold the log up to ``last_index`` and this record."""

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
    """``pre``: a question only, nothing is recorded; of view 0: its sender has forgotten all (consensus/amnesia.py).

    ``transfer``: the leader itself asked for it.
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
    """``ahead``: the voter's log is longer; its entries after ``from_index`` (of ``from_view``) are the payload.

    In the refusal of a question of view 0: it leads by force, and nobody has acknowledged that yet.
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
    """Leader -> secondary: stand for election now, you have my vote. Payload: why; empty in a switchover."""

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
    """Idle replica -> leader: fill me. Payload: JSON of what must be equal on both sides."""

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
    """Live fill. Payload: ``count`` page numbers (u32, native order), then the pages."""

    TYPE, FMT = 22, "!QQI"
    view: int
    join: int
    count: int
    payload: bytes = b""


@dataclass(frozen=True)
class FillState(Message):
    """End of the fill: the device stream; the log is consumed up to ``index``."""

    TYPE, FMT = 23, "!QQQQ"
    view: int
    join: int
    index: int
    pages_sent: int
    payload: bytes = b""


@dataclass(frozen=True)
class FillDone(Message):
    """Joining -> leader: everything is loaded, the VM runs here."""

    TYPE, FMT = 24, "!QQ"
    view: int
    join: int


@dataclass(frozen=True)
class FillCheck(Message):
    """Leader -> joining: our VM stands still and ``pages_sent`` pages are on their way: hash all of guest memory.

    Only to a joiner whose JoinRequest says "checks".
    """

    TYPE, FMT = 27, "!QQQ"
    view: int
    join: int
    pages_sent: int


@dataclass(frozen=True)
class FillHashes(Message):
    """Joining -> leader: CityHash64 of each page, ascending, as many messages as it takes."""

    TYPE, FMT = 28, "!QQ"
    view: int
    join: int
    payload: bytes = b""


@dataclass(frozen=True)
class Bitmap(Message):
    """Dirty bitmap of one side at syncvm ``number``, packed if that is shorter.

    ``audit``: 1 = hash every page, not just the union, 2 = disks too.
    """

    TYPE, FMT = 30, "!QQB"
    view: int
    number: int
    audit: int
    payload: bytes = b""


@dataclass(frozen=True)
class Hashes(Message):
    """Secondary -> leader: CityHash64 of each page, ascending. ``after``: of an audit, once applied."""

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
    """Leader -> secondary: tell me the hashes of these pages' blocks. Payload: a bitmap over the pages that were hashed."""

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
    """Leader -> secondary's staging buffer: what the next ``count`` divergent pages need to be equal.

    Payload, packed: ``count`` masks of blocks (u64, native order), as many hashes of the pages (u64), then the blocks.
    """

    TYPE, FMT = 40, "!QQI"
    view: int
    number: int
    count: int
    payload: bytes = b""


@dataclass(frozen=True)
class StageEnd(Message):
    """The syncvm is whole: ``pages`` staged, ``digest`` over all that was sent of them and the device state.

    Payload: the device state of ``size`` bytes, packed; as what differs from the one whose digest is ``base``, unless 0.
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
    """Secondary -> leader, once at most, instead of Staged: send these pages (u32, native order) whole.

    ``device``: and the device state.
    """

    TYPE, FMT = 41, "!QQ?"
    view: int
    number: int
    device: bool
    payload: bytes = b""


@dataclass(frozen=True)
class Staged(Message):
    """Secondary -> leader: syncvm ``number`` is completely here and verified."""

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
class DiskHashes(Message):
    """Secondary -> leader: CityHash64 of each block of its images, in an audit of disks, once applied."""

    TYPE, FMT = 37, "!QQ"
    view: int
    number: int
    payload: bytes = b""


@dataclass(frozen=True)
class LateInput(Message):
    """Who handed over -> the new leader: frames for the VM that still came here."""

    TYPE, FMT = 36, "!Q"
    view: int
    payload: bytes = b""


@dataclass(frozen=True)
class ProposeRecord(Message):
    """Leader -> all: store this in-sync record durably, then answer with HeartbeatAck."""

    TYPE, FMT = 10, "!QQQB"
    view: int
    record_view: int
    record_version: int
    record_in_sync: int


@dataclass(frozen=True)
class RingOffer(Message):
    """Follower -> its leader: ring ``ring`` is yours in this view. Payload: where it is, as the network card needs it."""

    TYPE, FMT = 50, "!QQ"
    view: int
    ring: int
    payload: bytes = b""


@dataclass(frozen=True)
class RingAccept(Message):
    """Leader -> follower: I shall write there; nothing of the kind comes by message any more. Payload: who writes."""

    TYPE, FMT = 51, "!QQ"
    view: int
    ring: int
    payload: bytes = b""


@dataclass(frozen=True)
class RingReady(Message):
    """Follower -> leader: all that came by message is read; write."""

    TYPE, FMT = 52, "!QQ"
    view: int
    ring: int


@dataclass(frozen=True)
class PipeAddress(Message):
    """First on a data channel with RDMA, after Hello, both ways. Payload: where our ring is, as the card needs it."""

    TYPE = 53
    payload: bytes = b""


@dataclass(frozen=True)
class PipeReady(Message):
    """Connected; from here on this channel's messages are written into your ring."""

    TYPE = 54


# What a new connection begins with, before there is a view to name.
GREETINGS = (Hello, Proof, PipeAddress, PipeReady)
