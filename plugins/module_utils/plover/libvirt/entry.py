# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt domain as an entry of plover_vms (docs/import.md). Pure: bytes and wishes in, entry and notes out."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from ..config.settings import check_value
from ..errors import ConfigError
from . import machine
from .cards import cards
from .disks import disks
from .notes import Imported, Notes, Wishes
from .rest import rest
from .tree import parse, quoted, text

SEATS = {
    "primary": "the host of group plover_replicas that boots the VM the first time",
    "secondary": "the host of group plover_replicas that takes over",
    "witness": "a host of group plover_witnesses",
}
NO_WISHES = Wishes()


def imported(data: bytes, wishes: Wishes = NO_WISHES) -> Imported:
    """Raises ConfigError if ``data`` is no domain, or a wish cannot be fulfilled."""
    _check(wishes)
    domain, notes = parse(data), Notes()
    vm: dict[str, Any] = dict(_names(domain, wishes, notes))
    settings = machine.machine_type(domain, wishes, notes)
    card, more = cards(domain, wishes, notes)
    for part in (card, machine.memory(domain, notes), machine.vcpus(domain, notes), machine.kind(domain, notes)):
        vm.update(part)
    vm.update(machine.boot(domain, notes))
    vm.update(machine.ends(domain, notes))
    vm.update(disks(domain, notes))
    shape = machine.topology(domain, vm.get("vcpus"), notes)
    settings.update({**shape, **machine.cpu(domain, notes), **more, **machine.rng(domain, notes)})
    machine.clock(domain, notes)
    machine.features(domain, notes)
    rest(domain, notes)
    return notes.imported({**vm, **({"settings": settings} if settings else {})})


def _check(wishes: Wishes) -> None:
    """What an operator writes is wrong at once, and no fault of the domain."""
    for key, setting in (("name", "name"), ("bridge", "network_bridge"), ("machine", "guest_machine")):
        value = getattr(wishes, key)
        for each in value.split(",") if key == "bridge" else [value]:  # one for each card
            problems = check_value(setting, each) if value else []
            if problems:
                raise ConfigError(f"{key}: {problems[0].partition(': ')[2]}")


def _names(domain: Element, wishes: Wishes, notes: Notes) -> dict[str, str]:
    """Name, seats and the group's UUID, which is that of the domain: no other VM has it."""
    out, name = {}, wishes.name or text(domain, "name")
    if check_value("name", name):
        notes.refuse(
            "name", f"{quoted(name) or 'none'} must be lower-case letters, digits and dashes, 31 at most; give another with --name"
        )
    else:
        out["name"] = name
    for seat, who in SEATS.items():
        if getattr(wishes, seat):
            out[seat] = getattr(wishes, seat)
        else:
            notes.ask(seat, who)
    uuid = text(domain, "uuid").lower()
    if check_value("cluster_id", uuid):
        notes.ask("cluster_id", "the file has no usable uuid; make one with uuidgen")
    else:
        out["cluster_id"] = uuid
        notes.leave_out("uuid", "is now the group's cluster_id; the guest does not see it in its SMBIOS any more")
    return out
