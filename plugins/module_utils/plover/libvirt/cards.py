# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain's network card as keys of plover_vms. Pure."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

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
SEVERAL = "a VM of plover_vms has one card, and the entry has the first; remove the others if the guest can do without them"
MODEL = (
    "Plover's guests have virtio or e1000; change it in libvirt, start the guest once to see that it reaches its network, "
    "and import it again"
)


def cards(domain: Element, wishes: Wishes, notes: Notes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(keys of the VM, settings)."""
    found = domain.findall("devices/interface")
    if not found:
        notes.refuse("interface", "the guest has no network card; Plover protects what is reached over a network. Add one in libvirt")
        return {}, {}
    if len(found) > 1:
        notes.refuse(f"interface 2 to {len(found)}" if len(found) > 2 else "interface 2", SEVERAL)
    card = found[0]
    vm = {**_mac(card, notes), **_bridge(card, wishes, notes), **_tap(card, notes)}
    settings = _model(card, notes)
    _parts(card, wishes, notes)
    notes.ask(
        "addresses", "the guest's IPv4 addresses, if they are fixed: a failover announces them, and the guest may send from no others"
    )
    return vm, settings


def _mac(card: Element, notes: Notes) -> dict[str, str]:
    mac = attribute(card, "mac", "address").lower()
    if not mac:
        notes.ask(
            "mac", "the file does not name the card's address; write the one that the guest knows, or a new one, like 52:54:00:70:6c:01"
        )
        return {}
    if check_value("guest_mac", mac) or int(mac[:2], 16) & 1:
        notes.refuse("interface mac", f"{quoted(mac)} is no address of a single card")
        return {}
    return {"mac": mac}


def _bridge(card: Element, wishes: Wishes, notes: Notes) -> dict[str, str]:
    kind = card.get("type", "")
    name = wishes.bridge or (attribute(card, "source", "bridge") if kind == "bridge" else "")
    if kind != "bridge" and wishes.bridge:
        notes.leave_out("interface type", f"{quoted(kind)}: the card is on bridge {wishes.bridge}, as you say")
    elif kind != "bridge":
        notes.refuse("interface type", f"{quoted(kind) or 'none'} {TYPES.get(kind, f': {UNKNOWN}')}; {REMEDY}")
        return {}
    if not name or check_value("network_bridge", name):
        notes.refuse("interface bridge", f"{quoted(name) or 'none'} is no name of a bridge; {REMEDY}")
        return {}
    return {"bridge": name}


def _tap(card: Element, notes: Notes) -> dict[str, str]:
    """A name that somebody gave is kept; one that libvirt made is of the running VM alone."""
    name = attribute(card, "target", "dev")
    if name and not GENERATED_TAP.match(name) and not check_value("network_tap", name):
        notes.ask("port", "7420, if you do not write it; each VM of a host needs another")
        return {"tap": name}
    notes.ask("tap, port", "plover0 and 7420, if you do not write them; each VM of a host needs others")
    return {}


def _model(card: Element, notes: Notes) -> dict[str, str]:
    model = attribute(card, "model", "type")
    if model not in MODELS:
        notes.refuse("interface model", f"{quoted(model) or 'none is given'}: {MODEL}")
        return {}
    return {} if MODELS[model] == VIRTIO else {"guest_nic": MODELS[model]}


def _parts(card: Element, wishes: Wishes, notes: Notes) -> None:
    if attribute(card, "link", "state") == "down":
        notes.leave_out("interface link", "the card's link is up")
    for element in card:
        if element.tag in ("vlan", "virtualport") and wishes.bridge:
            notes.leave_out(f"interface {element.tag}", f"the card is on bridge {wishes.bridge}, as you say")
        else:
            notes.sort("interface ", element.tag, CARD_REFUSED, CARD_LEFT_OUT, CARD_READ)
