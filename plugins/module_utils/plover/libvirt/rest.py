# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a domain has no key in plover_vms: left out, or in the way (tables.py). What is not known stands in the way. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from .disks import VIRTIO_SCSI
from .notes import Notes
from .tables import DEVICES_LEFT_OUT, DEVICES_REFUSED, READ, READ_DEVICES, SILENT, TOP_LEFT_OUT, TOP_REFUSED, UNKNOWN
from .tree import NAMESPACE, attribute, children, quoted, text

REBOOT = "restart"  # of on_reboot: what surprises nobody
OWN_CONTROLLERS = {"pci-root", "ide"}
DEFAULT_EMULATOR = "/usr/bin/qemu-system-x86_64"
SERIAL = "the guest's first serial port is its console, whose output Plover keeps in a file; it has no other"


def rest(domain: Element, notes: Notes) -> None:
    for element in domain:
        _sort(element, TOP_LEFT_OUT, TOP_REFUSED, READ | SILENT, notes)
    wanted = text(domain, "on_reboot")
    if wanted not in ("", REBOOT):
        notes.leave_out("on_reboot", f"{quoted(wanted)}: Plover does not follow it; a guest that reboots goes on")
    devices = domain.find("devices")
    for element in children(devices):
        _device(element, notes)
    _emulator(devices, notes)
    _controllers(devices, notes)
    _serial(devices, notes)
    if any(element.get("type") == "pci" for element in domain.iterfind("devices/*/address")):
        notes.leave_out(
            "PCI addresses", "QEMU chooses them anew; names that come of them, like ens3, change in the guest's network settings"
        )


def _sort(element: Element, left_out: dict[str, str], refused: dict[str, str], read: set[str], notes: Notes) -> None:
    namespace, _blank, tag = element.tag.rpartition(NAMESPACE)
    if namespace:
        _of_another(namespace, tag, element, notes)
    else:
        notes.sort("", tag, refused, left_out, read)


def _of_another(namespace: str, tag: str, element: Element, notes: Notes) -> None:
    """An element with a namespace: arguments of QEMU, mostly."""
    ours = namespace.endswith("/domain/qemu/1.0")
    if ours and tag in ("capabilities", "deprecation"):
        notes.leave_out(f"qemu:{tag}", "tells libvirt only what QEMU can do")
    elif ours and tag == "commandline":
        words = quoted(" ".join(child.get("value") or child.get("name") or "" for child in element))
        notes.refuse("qemu:commandline", f"{words}: Plover starts QEMU with arguments of its own; remove them if the guest can do without")
    else:
        notes.refuse(f"{namespace} {tag}", UNKNOWN)


def _device(element: Element, notes: Notes) -> None:
    if element.tag == "memballoon" and element.get("model") == "none":
        return
    if element.tag == "input" and element.get("bus") == "ps2":
        return  # each machine of type pc has them
    _sort(element, DEVICES_LEFT_OUT, DEVICES_REFUSED, READ_DEVICES | SILENT, notes)


def _emulator(devices: Element | None, notes: Notes) -> None:
    path = text(devices, "emulator")
    if path not in ("", DEFAULT_EMULATOR):
        notes.leave_out("emulator", f"{quoted(path)}: both replicas run {DEFAULT_EMULATOR}; for another one set settings.qemu_binary")


def _controllers(devices: Element | None, notes: Notes) -> None:
    found = [each for each in children(devices) if each.tag == "controller" and each.get("model") not in ("none", *VIRTIO_SCSI)]
    kinds = {each.get("model", "") if each.get("type") == "pci" else each.get("type", "") for each in found}
    others = sorted(kinds - OWN_CONTROLLERS - {""})
    if others:
        notes.leave_out(
            "controllers", f"{quoted(', '.join(others))}: the guest has the PCI and IDE controllers of machine type pc, no others"
        )


def _serial(devices: Element | None, notes: Notes) -> None:
    """A console of type serial is the first serial port once more."""
    ports = [each for each in children(devices) if each.tag == "serial"]
    if len(ports) > 1:
        notes.leave_out(f"serial 2 to {len(ports)}" if len(ports) > 2 else "serial 2", SERIAL)
    if any(each.get("type") != "pty" for each in ports[:1]):
        notes.leave_out("serial", SERIAL)
    for each in children(devices):
        kind = attribute(each, "target", "type")
        if each.tag == "console" and kind not in ("serial", ""):
            notes.leave_out(f"console {quoted(kind)}", SERIAL)
