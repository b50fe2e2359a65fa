# SPDX-License-Identifier: GPL-3.0-or-later
"""The network cards of one VM, as the settings name them: the first by settings of its own, the others by ``further_nics``."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, NamedTuple

from ..errors import one_line
from . import spoof
from .spoof import Given

NICS_MAX = 8  # in all
MODELS = VIRTIO, E1000 = ("virtio-net-pci", "e1000")
MTU_MIN, MTU_MAX = 68, 65_521  # RFC 791; what virtio can tell
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")
# Key of a further card -> the setting that says the same of the first one.
SETTING_OF = {
    "mac": "guest_mac",
    "bridge": "network_bridge",
    "tap": "network_tap",
    "model": "guest_nic",
    "mtu": "guest_mtu",
    "addresses": "guest_addresses",
    "spoof_check": "guest_spoof_check",
    "networks": "guest_networks",
    "vlans": "guest_vlans",
    "serves": "guest_serves",
}
REQUIRED = ("mac", "bridge", "tap")
DEFAULTS: dict[str, Any] = {
    "model": VIRTIO,
    "mtu": 0,
    "addresses": [],
    "spoof_check": spoof.AUTO,
    "networks": [],
    "vlans": [],
    "serves": [],
}
_KINDS = {key: type(default) for key, default in DEFAULTS.items()}
_GUESTS = ("model", "mac", "mtu")  # what the guest sees of a card


def setting(number: int, key: str) -> str:
    """The name of that setting of a card."""
    return f"further_nics[{number - 1}].{key}" if number else SETTING_OF[key]


class Nic(NamedTuple):
    """One card. ``number``: its place, from 0 on; ``given``: what its frames are checked for."""

    number: int
    mac: str
    bridge: str
    tap: str
    model: str
    mtu: int
    addresses: tuple[str, ...]
    given: Given

    @property
    def seen(self) -> list[Any]:
        """What the guest sees of it: equal on both replicas."""
        return [getattr(self, key) for key in _GUESTS]


def parse(values: dict[str, Any]) -> tuple[Nic, ...]:
    """The cards of complete and checked settings."""
    cards = [{key: values[setting] for key, setting in SETTING_OF.items()}, *({**DEFAULTS, **card} for card in values["further_nics"])]
    return tuple(
        Nic(n, card["mac"], card["bridge"], card["tap"], card["model"], card["mtu"], tuple(card["addresses"]), spoof.given(card))
        for n, card in enumerate(cards)
    )


def problems(values: dict[str, Any]) -> list[str]:
    """Problems of the settings of all cards, one sentence each; ``values`` are complete, and each is valid by itself."""
    first = {key: values[setting] for key, setting in SETTING_OF.items()}
    out = _together(first, SETTING_OF)
    further = values["further_nics"]
    if len(further) >= NICS_MAX:
        return [*out, f"further_nics: {len(further)} and the first one are too many; a VM has at most {NICS_MAX} cards"]
    whole = [first]
    for n, card in enumerate(further):
        where = f"further_nics[{n}]"
        bad = _alone(where, card)
        if not bad:
            card = {**DEFAULTS, **card}
            bad = _together(card, {key: setting(n + 1, key) for key in SETTING_OF})
            whole.append(card)
        out += bad
    return out + _twice(whole)


def _alone(where: str, card: Any) -> list[str]:
    """Each key by itself."""
    if not isinstance(card, dict):
        return [f"{where}: must be an object with at least {', '.join(REQUIRED)}"]
    out = [f"{where}.{one_line(key)}: unknown; known are {', '.join(SETTING_OF)}" for key in card if key not in SETTING_OF]
    out += [f"{where}.{key}: is missing; every card needs its own" for key in REQUIRED if key not in card]
    for key, pattern, like in (("mac", MAC, "52:54:00:70:6c:02"), ("bridge", INTERFACE, "br1"), ("tap", INTERFACE, "plover0-1")):
        if key in card and not (isinstance(card[key], str) and pattern.match(card[key])):
            out.append(f"{where}.{key}: {_shown(card[key])} is not valid; write it like {like}")
    for key, kind in _KINDS.items():
        if key in card and (not isinstance(card[key], kind) or isinstance(card[key], bool)):
            out.append(f"{where}.{key}: must be of type {kind.__name__}, not {type(card[key]).__name__}")
        elif key in ("model", "spoof_check") and card.get(key, DEFAULTS[key]) not in (MODELS if key == "model" else spoof.CHECKS):
            out.append(f"{where}.{key}: {_shown(card[key])} is not one of {', '.join(MODELS if key == 'model' else spoof.CHECKS)}")
    return out


def _together(card: dict[str, Any], names: dict[str, str]) -> list[str]:
    """What the values of one card must fulfil together. ``names``: of its keys, in sentences."""
    out = [
        f"{names['addresses']}: {address!r} is not an IPv4 address (write it without a prefix length)"
        for address in card["addresses"]
        if not is_ipv4(address)
    ]
    if int(card["mac"][:2], 16) & 1:
        out.append(f"{names['mac']}: {card['mac']} is a multicast address; choose one whose first byte is even")
    if card["mtu"] and (card["model"] != VIRTIO or not MTU_MIN <= card["mtu"] <= MTU_MAX):
        out.append(
            f"{names['mtu']}: {card['mtu']} must be 0, or {MTU_MIN} to {MTU_MAX} with {names['model']} {VIRTIO}, which alone tells it"
        )
    return out + spoof.problems(card, names)


def _twice(cards: list[dict[str, Any]]) -> list[str]:
    """What no two cards of the VM may share."""
    out = []
    for key, why in (("mac", "give each card an address of its own"), ("tap", "give each card a TAP of its own")):
        values = [card[key] for card in cards]
        out += [
            f"further_nics[{n}].{key}: {value} is that of another card of this VM; {why}"
            for n, value in enumerate(values[1:])
            if value in values[: n + 1]
        ]
    return out


def _shown(value: Any) -> str:
    return ascii(value)[:80]


def is_ipv4(text: Any) -> bool:
    """An IPv4 address, as text and without a prefix."""
    try:
        return isinstance(text, str) and bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False
