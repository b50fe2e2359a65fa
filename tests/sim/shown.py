# SPDX-License-Identifier: GPL-3.0-or-later
"""One line for one thing that was seen, for transcripts: fields by their names, payloads by what they say."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import fields

from plover.consensus.durable import Durable
from plover.consensus.log import INPUT, NUMBER, unpack
from plover.native import zstd
from plover.ports import effects
from plover.protocol import wire
from plover.protocol.frames import split

from . import guest, speech
from .watch import DISK, DOES, GOT, NOTE, Seen

MEMBERS = ("primary", "secondary", "witness")
TIME_CHARACTERS = 7
HIDDEN = {
    wire.VoteRequest: ("record_view", "last_view"),
    wire.VoteReply: ("from_index", "from_view"),
    wire.Append: ("prev_index", "prev_view"),
}  # said by other words of the same line
OPERATIONS = {guest.READ: "get", guest.WRITE: "put", guest.CAS: "cas"}


def line(seen: Seen, shown: tuple[type, ...]) -> str | None:
    """``shown``: the messages and actions wanted; disks and notes always are."""
    if seen.how in (GOT, DOES) and not isinstance(seen.thing, shown):
        return None
    if isinstance(seen.thing, effects.Emit) and not seen.thing.chunks:
        return None
    text = {
        GOT: lambda: f"<- {seen.src}: {_message(seen.thing)}",
        DOES: lambda: _action(seen.thing),
        DISK: lambda: _durable(seen.thing),
        NOTE: lambda: seen.thing,
    }[seen.how]()
    return f"{1000 * seen.at_s:{TIME_CHARACTERS}.1f}  {seen.who:9}  {text}"


def _durable(state: Durable) -> str:
    record, in_sync = _version(state.record.view, state.record.version), ", ".join(sorted(state.record.in_sync)) or "none"
    return f"on disk: view {state.view}, vote {state.voted_for or 'none'}, record {record} in sync: {in_sync}"


def _version(view: int, version: int) -> str:
    return f"{view}.{version}"


def _message(m: wire.Message) -> str:
    words = [type(m).__name__]
    for field in fields(m):
        value = getattr(m, field.name)
        if field.name == "record_version":
            words.append(f"record={_version(m.record_view, value)}")
        elif field.name == "record_in_sync":
            words.append("in_sync=" + (",".join(n for i, n in enumerate(MEMBERS) if value >> i & 1) or "none"))
        elif field.name == "last_index" and isinstance(m, wire.VoteRequest):
            words.append(f"log={_version(m.last_view, value)}")
        elif field.name == "granted":
            words.append("granted" if value else "refused")
        elif field.name == "payload":
            words += _payload(m)
        elif field.name == "audit" and not value:
            continue
        elif value is not False and field.name not in HIDDEN.get(type(m), ("record_view", "digest", "base", "size")):
            words.append(field.name if value is True else f"{field.name}={value}")
    return " ".join(words)


def _payload(m: wire.Message) -> list[str]:
    if isinstance(m, (wire.Append, wire.VoteReply)):
        return [_entry(e) for e in unpack(m.payload)]
    if isinstance(m, wire.Bitmap):
        bits = int.from_bytes(m.payload, "little")
        return [f"pages={_numbers(p for p in range(guest.PAGES) if bits >> p & 1)}"]
    if isinstance(m, wire.Divergent):
        bits = int.from_bytes(m.payload, "little")
        return [f"places={_numbers(p for p in range(guest.PAGES) if bits >> p & 1)}"]
    if isinstance(m, wire.StageBlocks):
        return [f"blocks={len(zstd.decompress(m.payload, 1 << 20)) - 16 * m.count}"]
    if isinstance(m, wire.BlockHashes):
        return [f"hashes={len(m.payload) // 2}"]
    if isinstance(m, wire.Resend):
        return [f"pages={_numbers(array('I', m.payload))}"]
    if isinstance(m, wire.StagePages):
        pages = array("I")
        pages.frombytes(m.payload[: 4 * m.count])
        return [f"pages={_numbers(pages)}"]
    if isinstance(m, (wire.Hashes, wire.FillHashes)):
        return [f"hashes={len(m.payload) // 8}"]
    if isinstance(m, wire.StageEnd):
        return ["and what differs in the device state" if m.base else "and the device state"]
    if isinstance(m, wire.FillState):
        return ["and the device state"]
    return [f"({m.payload.decode()})"] if m.payload and not isinstance(m, wire.JoinRequest) else []


def _entry(entry) -> str:
    if entry.kind == INPUT:
        return f"{entry.index}:input"
    return f"{entry.index}:syncvm-{NUMBER.unpack(entry.payload)[0]}"


def _numbers(pages) -> str:
    return ",".join(map(str, pages)) or "none"


def _action(action: object) -> str:
    if isinstance(action, effects.Report):
        return action.text
    if isinstance(action, effects.Emit):
        answers = Counter(speech.hear(bytes(f))[:2] for chunk in action.chunks for f in split(chunk))
        return "LETS OUT " + ", ".join(
            f"the answer to operation {operation} of connection {connection}" + (f", {count} times" if count > 1 else "")
            for (connection, operation), count in answers.items()
        )
    if isinstance(action, effects.Inject):
        asked = [guest.REQUEST.unpack(f[len(guest.MAC) :]) for f in split(action.payload)]
        return "feeds its VM " + ", ".join(f"{OPERATIONS[kind]} k{key} (operation {o})" for _, o, kind, key, _, _ in asked)
    if isinstance(action, (effects.Hash, effects.HashBlocks)):
        return f"does {type(action).__name__} of pages {_numbers(action.index)}"
    return f"does {type(action).__name__}"
