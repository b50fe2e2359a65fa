# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain's disks as those of plover_vms. Pure."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

from ..config import disks as known
from ..config.boot import IDE_DRIVES_MAX
from ..config.settings import check_value
from .notes import Notes
from .tables import DISK_LEFT_OUT, DISK_READ, DISK_REFUSED, UNKNOWN
from .tree import attribute, quoted, text

BUSES = {"virtio": "virtio-blk", "scsi": "virtio-scsi", "ide": "ide"}
PLACES = {"file": "file", "block": "dev"}  # type of a disk -> attribute of its source
VIRTIO_SCSI = ("virtio-scsi", "virtio-transitional", "virtio-non-transitional")
CONVERT = "copy it to an image file with qemu-img convert, and name that in the entry"
TYPES = {
    "network": f"is on a storage server, which both replicas would write to; {CONVERT}",
    "volume": f"names a pool and a volume of libvirt, not a path; write the path that 'virsh vol-path' says, or {CONVERT}",
    "nvme": f"is a device of one host; {CONVERT}",
    "dir": "is a folder of one host; make an image of its files",
    "vhostuser": f"is a service of one host; {CONVERT}",
    "vhostvdpa": f"is a device of one host; {CONVERT}",
}
BUS = (
    "Plover's disks have bus virtio, ide, or scsi with a controller of model virtio-scsi; change it in libvirt, start the guest once to "
    "see that it boots, and import it again"
)
NO_CD = "the guest has one CD drive, with an image file of its own"
NO_FLOPPY = "the guest has no floppy drive"


def disks(domain: Element, notes: Notes) -> dict[str, Any]:
    """``disks``, the one that the guest boots from first, and ``cdrom``."""
    found = [disk for disk in domain.iterfind("devices/disk") if _is_disk(disk, notes)]
    values: dict[str, dict[str, Any]] = {}
    buses = _buses(domain)
    for disk in _boot_disk_first(found, notes):
        value = _one(disk, buses, notes)
        if value and value["path"] in values:
            notes.refuse(_name(disk), "has the image of another disk; give each an image of its own")
        elif value:
            values[value["path"]] = value
    cd = _cd(domain, notes)
    if not found and not cd and not text(domain, "os/kernel"):
        notes.refuse("disks", "the guest has no disk, CD or kernel to boot from; Plover's guests do not boot from the network")
    if sum(attribute(disk, "target", "bus") == "ide" for disk in found) + bool(cd) > IDE_DRIVES_MAX:
        notes.refuse(
            "disks",
            f"there are over {IDE_DRIVES_MAX} drives on bus ide, the CD among them; change some to virtio in libvirt, and import it again",
        )
    for problem in known.problems(list(values.values())):
        notes.refuse("disks", problem.partition(": ")[2])
    if values:
        notes.ask(
            "disks",
            "shut the VM down in libvirt for good. Each image must be at its path on the primary, or on this machine, named by a key "
            "source of the disk; the secondary gets its copy from there",
        )
    return {**({"disks": list(values.values())} if values else {}), **cd}


def _cd(domain: Element, notes: Notes) -> dict[str, str]:
    """``cdrom``, and ``boot`` if the guest tries it first."""
    out: dict[str, str] = {}
    for drive in domain.iterfind("devices/disk"):
        if drive.get("device") != "cdrom" or drive.find("source") is None:
            continue
        path = attribute(drive, "source", "file") if drive.get("type", "file") == "file" else ""
        if out or not path or check_value("guest_cdrom", path):
            notes.leave_out(_name(drive), f"{NO_CD}: {quoted(path) or 'this one is of another kind'}")
        else:
            out["cdrom"] = path
            notes.ask("cdrom", "is on libvirt's host; copy the file to this machine, and write where it is. Without it the drive is gone")
    first = attribute(domain.find("os"), "boot", "dev")
    if out and first == "cdrom" and not text(domain, "os/kernel"):
        out["boot"] = "cdrom"
    return out


def _is_disk(disk: Element, notes: Notes) -> bool:
    """Not a CD, a floppy, or a device of the host's SCSI bus."""
    device, what = disk.get("device", "disk"), _name(disk)
    if device == "floppy" and disk.find("source") is not None:
        notes.leave_out(what, NO_FLOPPY)
    if device in ("cdrom", "floppy"):
        return False
    if device != "disk":
        notes.refuse(what, f"device {quoted(device)} is a device of one host, which the other host does not have; {CONVERT}")
        return False
    return True


def _name(disk: Element) -> str:
    return f"{quoted(disk.get('device', 'disk'))} {quoted(attribute(disk, 'target', 'dev')) or 'without a target'}"


def _boot_disk_first(found: list[Element], notes: Notes) -> list[Element]:
    """A guest boots from its first disk. By C(boot dev='hd') that is libvirt's first disk, too."""
    orders = [(int(order), disk) for disk in found if re.match(r"[0-9]{1,6}\Z", order := attribute(disk, "boot", "order"))]
    first = min(orders, key=lambda pair: pair[0])[1] if orders else found[0] if found else None
    if first is None or first is found[0]:
        return found
    notes.leave_out(_name(first), "is the disk that the guest boots from, so it comes first; names like vda change in the guest")
    return [first, *(disk for disk in found if disk is not first)]


def _buses(domain: Element) -> set[str]:
    """Those that Plover has, too. Of several SCSI controllers all must be virtio: a disk need not say which one it is at."""
    models = [each.get("model", "") for each in domain.iterfind("devices/controller") if each.get("type") == "scsi"]
    scsi = bool(models) and all(model in VIRTIO_SCSI for model in models)
    return {bus for bus in BUSES if bus != "scsi" or scsi}


def _one(disk: Element, buses: set[str], notes: Notes) -> dict[str, Any] | None:
    """None if it cannot be a disk of plover_vms; then it stands in the way."""
    what = _name(disk)
    place = _place(disk, what, notes)
    _parts(disk, what, notes)
    _source(disk, what, notes)
    bus = attribute(disk, "target", "bus")
    if bus not in buses:
        notes.refuse(what, f"bus {quoted(bus) or 'is not given'}: {BUS}")
    value = {"path": place, "format": attribute(disk, "driver", "type") or "raw", **_cache(disk, what, notes)}
    if bus in ("scsi", "ide"):
        value["bus"] = BUSES[bus]
    value.update(_serial(disk, what, notes))
    problems = known.problems([value]) if place else []
    for problem in problems:
        key, _colon, why = problem.partition(": ")
        notes.refuse(f"{what} {key.rpartition('.')[2]}", f"{quoted(why)}; {CONVERT}")
    return value if place and not problems else None


def _serial(disk: Element, what: str, notes: Notes) -> dict[str, str]:
    serial = text(disk, "serial")
    if serial and known.problems([{"path": "/a", "serial": serial}]):
        notes.leave_out(f"{what} serial", f"{quoted(serial)} is not of at most 20 letters, digits and .-_; the guest sees none")
        return {}
    return {"serial": serial} if serial else {}


def _place(disk: Element, what: str, notes: Notes) -> str:
    """The path of its image; empty if it has none."""
    kind = disk.get("type", "file")
    if kind not in PLACES:
        notes.refuse(what, TYPES.get(kind, f"type {quoted(kind)}: {UNKNOWN}"))
        return ""
    place = attribute(disk, "source", PLACES[kind])
    if not place:
        notes.refuse(what, "has no source; give it an image in libvirt, or remove it")
    return place


def _parts(disk: Element, what: str, notes: Notes) -> None:
    """What else the disk has."""
    for element in disk:
        notes.sort(f"{what} ", element.tag, DISK_REFUSED, DISK_LEFT_OUT, DISK_READ)
    if attribute(disk, "blockio", "logical_block_size") not in ("", "512"):
        notes.refuse(
            f"{what} blockio", "the guest would see sectors of 512 bytes, and not find its partitions; copy its files to a new disk"
        )


def _source(disk: Element, what: str, notes: Notes) -> None:
    for element in disk.iterfind("source/*") if disk.get("type", "file") in PLACES else ():
        if element.tag in DISK_REFUSED:
            notes.refuse(f"{what} {element.tag}", DISK_REFUSED[element.tag])
        elif element.tag == "slices":
            notes.refuse(f"{what} slices", f"the image is a part of its file only; {CONVERT}")
        elif element.tag not in ("seclabel", "privateData"):
            notes.refuse(f"{what} source {quoted(element.tag)}", UNKNOWN)
    if disk.find("backingStore/source") is not None:
        notes.refuse(what, "has a backing image, which is not copied to the other host; merge both into one with qemu-img convert")


def _cache(disk: Element, what: str, notes: Notes) -> dict[str, str]:
    mode = attribute(disk, "driver", "cache")
    if mode in known.CACHES:
        return {"cache": mode}
    if mode not in ("", "default"):
        notes.leave_out(f"{what} cache", f"{quoted(mode)}: the disk gets Plover's default, writeback; what the guest flushes is kept")
    return {}
