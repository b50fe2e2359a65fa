# SPDX-License-Identifier: GPL-3.0-or-later
"""Well-formed messages to a member of a living group, in any order: understood or refused, and the group's cores live on."""

from __future__ import annotations

from collections.abc import Iterator

from plover.errors import WireError
from plover.protocol import codec, wire

from tests.sim import small
from tests.sim.rig import Rig

from ..target import Target, check_text, promise
from .group import TAG
from .messages import encoded, one_of_each

MEMBERS = ("primary", "secondary", "witness")
MESSAGES_MAX = 12
COUNTABLE = 2**62  # no number of ours gets further by counting


def _group() -> Rig:
    group = Rig()
    group.until(group.protected)
    group.send(5)
    group.until(lambda: group["primary"].core.role.syncvm and group["secondary"].core.role.syncvm)
    group.on_purpose = ""  # a forged message may undo what the onlooker knows
    return group


def _deliver(group: Rig, name: str, src: str, by_data: bool, message: wire.Message) -> None:
    seat = group[name]
    try:
        if seat.core is None:
            seat.consensus.receive(group.now, src, message)
        elif by_data:
            seat.core.data(message)
        else:
            seat.core.control(src, message)
    except WireError as error:
        check_text(str(error), lines=False)


def group_messages(data: bytes) -> None:
    """The first byte: who hears it, from whom, on which channel. Then messages; the simulator's small pages fit into a few bytes."""
    before = small._now()
    small._set(small._simulated)
    try:
        name, by_data = MEMBERS[data[0] % 3] if data else "witness", bool(data[:1] and data[0] & 64)
        src = [member for member in MEMBERS if member != name][data[0] >> 3 & 1] if data else "primary"
        try:
            found = list(codec.Decoder(TAG).feed(data[1:]))[:MESSAGES_MAX]
        except WireError:
            return
        if not found:
            return
        group = _group()
        for message in found:
            if isinstance(message, wire.GREETINGS) or (name == "witness" and type(message).__name__ not in HEARD):
                continue
            _deliver(group, name, src, by_data, message)
            group[name].member.run()
        group.run(0.005)
        promise(all(seat.consensus is not None for seat in group.seats.values()), "a member without its consensus")
    finally:
        small._set(before)


HEARD = ("Heartbeat", "HeartbeatAck", "ProposeRecord", "Append", "AppendAck", "VoteRequest", "VoteReply")


def _group_messages() -> Iterator[tuple[str, bytes]]:
    for message in one_of_each():
        if not isinstance(message, wire.GREETINGS) and len(encoded(message)) < 1024:
            for who in (0, 1, 2) if type(message).__name__ in HEARD else (0, 65):
                yield f"{type(message).__name__}-{MEMBERS[who % 3]}", bytes([who]) + encoded(message)


TARGETS = [Target("group_messages", group_messages, (), _group_messages, bytes_max=4096)]
