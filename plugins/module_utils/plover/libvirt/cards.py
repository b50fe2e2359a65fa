# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain's network cards as keys of plover_vms. Pure."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

from ..config.nics import NICS_MAX
from ..config.settings import check_value
from .notes import Notes, Wishes
from .tables import CARD_LEFT_OUT, CARD_READ, CARD_REFUSED, UNKNOWN
from .tree import attribute, quoted

# libvirt's model -> the setting guest_nic
VIRTIO = "virtio-net-pci"
MODELS = {"virtio": VIRTIO, "virtio-transitional": VIRTIO, "virtio-non-transitional": VIRTIO, "e1000": "e1000"}
GENERATED_TAP = re.compile(r"(vnet|vif|macvtap|macvlan|veth)\d*\Z")  # libvirt makes these at each start
REMEDY = "make a bridge on both hosts, and name it with --bridge (in the play: plover_libvirt_bridge)"
TYPES = {
    "network": "is a network of libvirt, which the file does not describe and which is of one host",
    "direct": "is a card of the host itself (macvtap)",
    "user": "is QEMU's own NAT, through which nobody reaches the guest",
    "ethernet": "is a TAP that a program of the host made",
    "vhostuser": "is a switch that shares memory with QEMU",
    "vdpa": "is a device of one host",
    "hostdev": "is a device of one host",
    "null": "is no network",
}
TOO_MANY = f"a VM of plover_vms has at most {NICS_MAX} cards, and the entry has the first; remove the others if the guest can do without"
MODEL = (
    "Plover's guests have virtio or e1000; change it in libvirt, start the guest once to see that it reaches its network, "
    "and import it again"
)


def cards(domain: Element, wishes: Wishes, notes: Notes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(keys of the VM, settings). Several cards are the key ``nics``; the only one has keys of the VM."""
    found = domain.findall("devices/interface")
    if not found:
        notes.refuse("interface", "the guest has no network card; Plover protects what is reached over a network. Add one in libvirt")
        return {}, {}
    if len(found) > NICS_MAX:
        notes.refuse(f"interface {NICS_MAX + 1} to {len(found)}", TOO_MANY)
    several = len(found) > 1
    nics = [
        _card(card, f"interface {n}" if several else "interface", _bridge_wish(wishes, n), notes)
        for n, card in enumerate(found[:NICS_MAX], 1)
    ]
    taps = sum("tap" in nic for nic in nics)
    if taps == len(nics):
        notes.ask("port", "7420, if you do not write it; each VM of a host needs another")
    elif several:
        notes.ask("tap, port", "plover0, plover0-1 and so on, and 7420, if you do not write them; each VM of a host needs others")
    else:
        notes.ask("tap, port", "plover0 and 7420, if you do not write them; each VM of a host needs others")
    notes.ask(
        "addresses", "the guest's IPv4 addresses, if they are fixed: a failover announces them, and the guest may send from no others"
    )
    if several:
        _twice(nics, notes)
        return {"nics": nics}, {}
    model = nics[0].pop("model", None)
    return nics[0], {"guest_nic": model} if model else {}


def _twice(nics: list[dict[str, str]], notes: Notes) -> None:
    """libvirt refuses none of it."""
    for key in ("mac", "tap"):
        seen: set[str] = set()
        for n, nic in enumerate(nics, 1):
            value = nic.get(key, "")
            if value and value in seen:
                notes.refuse(f"interface {n} {key}", f"{quoted(value)} is that of another card; give each its own in libvirt")
            seen.add(value)


def _bridge_wish(wishes: Wishes, number: int) -> str:
    """The wished bridge of card ``number``, from 1 on: one for all cards, or one for each."""
    names = wishes.bridge.split(",")
    if len(names) == 1:
        return names[0]
    return names[number - 1] if number <= len(names) else ""


def _card(card: Element, place: str, bridge: str, notes: Notes) -> dict[str, str]:
    out = {**_mac(card, place, notes), **_bridge(card, place, bridge, notes), **_tap(card), **_model(card, place, notes)}
    _parts(card, place, bridge, notes)
    return out


def _mac(card: Element, place: str, notes: Notes) -> dict[str, str]:
    mac = attribute(card, "mac", "address").lower()
    if not mac:
        notes.ask(
            "mac" if place == "interface" else f"{place} mac",
            "the file does not name the card's address; write the one that the guest knows, or a new one, like 52:54:00:70:6c:01",
        )
        return {}
    if check_value("guest_mac", mac) or int(mac[:2], 16) & 1:
        notes.refuse(f"{place} mac", f"{quoted(mac)} is no address of a single card")
        return {}
    return {"mac": mac}


def _bridge(card: Element, place: str, wish: str, notes: Notes) -> dict[str, str]:
    kind = card.get("type", "")
    name = wish or (attribute(card, "source", "bridge") if kind == "bridge" else "")
    if kind != "bridge" and wish:
        notes.leave_out(f"{place} type", f"{quoted(kind)}: the card is on bridge {wish}, as you say")
    elif kind != "bridge":
        notes.refuse(f"{place} type", f"{quoted(kind) or 'none'} {TYPES.get(kind, f': {UNKNOWN}')}; {REMEDY}")
        return {}
    if not name or check_value("network_bridge", name):
        notes.refuse(f"{place} bridge", f"{quoted(name) or 'none'} is no name of a bridge; {REMEDY}")
        return {}
    return {"bridge": name}


def _tap(card: Element) -> dict[str, str]:
    """A name that somebody gave is kept; one that libvirt made is of the running VM alone."""
    name = attribute(card, "target", "dev")
    return {"tap": name} if name and not GENERATED_TAP.match(name) and not check_value("network_tap", name) else {}


def _model(card: Element, place: str, notes: Notes) -> dict[str, str]:
    model = attribute(card, "model", "type")
    if model not in MODELS:
        notes.refuse(f"{place} model", f"{quoted(model) or 'none is given'}: {MODEL}")
        return {}
    return {} if MODELS[model] == VIRTIO else {"model": MODELS[model]}


def _parts(card: Element, place: str, bridge: str, notes: Notes) -> None:
    if attribute(card, "link", "state") == "down":
        notes.leave_out(f"{place} link", "the card's link is up")
    for element in card:
        if element.tag in ("vlan", "virtualport") and bridge:
            notes.leave_out(f"{place} {element.tag}", f"the card is on bridge {bridge}, as you say")
        else:
            notes.sort(f"{place} ", element.tag, CARD_REFUSED, CARD_LEFT_OUT, CARD_READ)
