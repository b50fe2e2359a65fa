# SPDX-License-Identifier: GPL-3.0-or-later
"""The Hello with which each side of a connection begins: making ours, checking another member's. Pure."""

from __future__ import annotations

import json
from typing import NamedTuple

from .. import __version__
from ..config.settings import Config
from ..config.timing import TOLD, Timing
from ..errors import WireError
from ..protocol import wire

FIRST_CHANNELS = frozenset({wire.CONTROL, wire.DATA})  # of a member that does not tell them
CHANNELS_MAX = KNOWS_MAX = 16
OFF = "off"  # a record may say that the VM is off (core/power.py)
KNOWN = frozenset({OFF})  # what not every version knows
BETWEEN_REPLICAS = {wire.DATA: "the data channel", wire.DISKS: "the disks' channel", wire.DISKS_KEYED: "the disks' channel"}
SHOWN = 80  # characters of what a stranger says, in a log


class Told(NamedTuple):
    """Content of another member's Hello. An older member tells no timing, no nonce, and not which channels it has."""

    member: str
    channel: int
    timing: Timing | None
    nonce: object  # not checked here: links/auth.py does
    channels: frozenset[int] = FIRST_CHANNELS
    renews: bool = False  # to take the place of the link that is up (succession.py)
    knows: frozenset[str] = frozenset()


def of(config: Config, channel: int, nonce: str = "", renews: bool = False) -> wire.Hello:
    """Our Hello. An older member ignores ``nonce``, ``channels``, ``renews``, ``knows`` and our timing."""
    timing = {key: config.values[key] for key in TOLD}
    return wire.Hello(
        json.dumps(
            {
                "cluster_id": config.cluster_id,
                "member": config.member,
                "channel": channel,
                "version": __version__,
                "knows": sorted(KNOWN),
                "channels": [wire.CONTROL, *(BETWEEN_REPLICAS if config.kind == "replica" else ())],
                **timing,
                **({"nonce": nonce} if nonce else {}),
                **({"renews": True} if renews else {}),
            }
        ).encode()
    )


def check(config: Config, message: wire.Hello, dialled: tuple[str, int] | None) -> Told:
    """Its content. Raises WireError unless it is from another member of our cluster, and the one that we ``dialled``, if any."""
    try:
        data = json.loads(message.payload)
        member, channel = data["member"], data["channel"]
        cluster = data["cluster_id"]
        if not isinstance(member, str) or not isinstance(channel, int) or isinstance(channel, bool):
            raise TypeError("'member' must be a string, 'channel' a number")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"malformed Hello: {error}") from error
    if cluster != config.cluster_id:
        raise WireError(f"Hello of cluster {ascii(cluster)[:SHOWN]}, ours is {config.cluster_id}; check 'cluster_id'")
    if member not in config.members or member == config.member:
        raise WireError(f"Hello of {ascii(member)[:SHOWN]}, who is no other member; check 'members' and 'member'")
    if channel not in (wire.CONTROL, *BETWEEN_REPLICAS) or (dialled and dialled != (member, channel)):
        raise WireError(f"Hello of {member} for channel {channel}, expected {dialled}")
    if channel in BETWEEN_REPLICAS and not {member, config.member} == set(config.replicas):
        raise WireError(f"Hello of {member} for {BETWEEN_REPLICAS[channel]}, which is between the replicas")
    return Told(member, channel, Timing.told(data), data.get("nonce"), _channels(data), data.get("renews") is True, _knows(data))


def _knows(data: dict[str, object]) -> frozenset[str]:
    """What we know as well, of what the member knows; a later version may know more."""
    found = data.get("knows")
    told = found[:KNOWS_MAX] if isinstance(found, list) else []
    return KNOWN & {each for each in told if isinstance(each, str)}


def _channels(data: dict[str, object]) -> frozenset[int]:
    found = data.get("channels")
    if found is None:
        return FIRST_CHANNELS
    whole = isinstance(found, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in found)
    if not isinstance(found, list) or not whole or len(found) > CHANNELS_MAX:
        raise WireError(f"malformed Hello: 'channels' must be a list of at most {CHANNELS_MAX} numbers")
    return frozenset(found)
