# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain's machine: type, memory, CPUs, firmware, boot, clock, as keys of plover_vms. Pure."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

from ..config import panics
from ..config import topology as shapes
from ..config.settings import SETTINGS, check_value
from .notes import Notes, Wishes
from .tables import OS_LEFT_OUT, UNKNOWN
from .tree import attribute, children, quoted, text

ACCELS = {"kvm": "kvm", "qemu": "tcg"}
UNITS = {  # in lower case
    **dict.fromkeys(("b", "byte", "bytes"), 1),
    **{f"{letter}{ending}": 1024 ** (n + 1) for n, letter in enumerate("kmgtpe") for ending in ("", "ib")},
    **{f"{letter}b": 1000 ** (n + 1) for n, letter in enumerate("kmgtpe")},
}
MIB = 1 << 20
ROM_BIOS = re.compile(r"/usr/share/(seabios|qemu|qemu-kvm)/bios(-256k)?\.bin\Z")
FEATURE_NAMES = {"pclmuldq": "pclmulqdq"}  # libvirt's name -> QEMU's, where QEMU does not know libvirt's
FEATURE_SIGNS = {"force": "+", "require": "+", "disable": "-", "forbid": "-"}
WHOLE_CPUS = {"host-passthrough": "host", "maximum": "max"}
Q35 = (
    "Plover's guests have machine type pc, as QEMU's COLO does not support q35. With --machine pc (in the play: plover_libvirt_machine) "
    "the guest gets that one: its cards and disks are at other PCI addresses, so look for names like enp1s0 in its settings first"
)
EFI = "the guest boots by UEFI, and Plover's guests boot by BIOS (SeaBIOS); install it for BIOS, or convert its disk"


def kind(domain: Element, notes: Notes) -> dict[str, Any]:
    """``accel``, for a domain of QEMU on x86_64."""
    hypervisor, system = attribute(domain, "", "type"), domain.find("os/type")
    if hypervisor not in ACCELS:
        notes.refuse("domain type", f"{quoted(hypervisor) or 'none'} is no virtual machine of QEMU; Plover runs type kvm and qemu")
    if text(system) != "hvm":
        notes.refuse("os type", f"{quoted(text(system)) or 'none'} is not hvm; Plover runs full virtual machines only")
    arch = attribute(system, "", "arch")
    if arch not in ("x86_64", ""):
        notes.refuse("os type arch", f"{quoted(arch)} is not x86_64, the only architecture of Plover's guests")
    return {"accel": ACCELS[hypervisor]} if hypervisor in ACCELS else {}


def machine_type(domain: Element, wishes: Wishes, notes: Notes) -> dict[str, Any]:
    """The setting ``guest_machine``, if it is not the default."""
    machine = attribute(domain, "os/type", "machine")
    if wishes.machine or machine in ("", "pc"):
        if wishes.machine and machine != wishes.machine:
            notes.leave_out("machine type", f"{quoted(machine)}: the guest gets {wishes.machine}, as you say")
        return {}
    if not check_value("guest_machine", machine):
        return {"guest_machine": machine}
    if "q35" in machine:
        notes.refuse("machine type", f"{quoted(machine)}: {Q35}")
    elif machine.startswith("pc-i440fx-"):
        notes.leave_out("machine type", f"{quoted(machine)} is of one distribution's QEMU; the guest gets pc, and devices may look newer")
    else:
        notes.refuse("machine type", f"{quoted(machine)} is none of Plover's guests; with --machine pc the guest gets that one")
    return {}


# ---- memory and CPUs -------------------------------------------------------------------------------------------------
def memory(domain: Element, notes: Notes) -> dict[str, Any]:
    """``memory_mib``: all that the guest has at boot, memory modules included."""
    size = size_of(domain.find("memory"))
    if size is None:
        notes.refuse("memory", "is missing or no size; give it as libvirt does, like <memory unit='GiB'>2</memory>")
        return {}
    mib = -(-size // MIB)
    if problems := check_value("guest_memory_mib", mib):
        notes.refuse("memory", problems[0].partition(": ")[2])
        return {}
    if size % MIB:
        notes.leave_out("memory", f"{size} bytes are no whole MiB; the guest gets {mib} MiB")
    current = size_of(domain.find("currentMemory"))
    if current is not None and current < size:
        notes.leave_out("currentMemory", f"there is no balloon; the guest has all {mib} MiB of its memory from the start")
    if domain.find("maxMemory") is not None:
        notes.leave_out("maxMemory", "no memory can be plugged in while the guest runs")
    _modules(domain, mib, notes)
    return {"memory_mib": mib}


def size_of(element: Element | None) -> int | None:
    """In bytes; None if it is no size."""
    number, scale = text(element), UNITS.get(attribute(element, "", "unit").lower() or "kib")
    return int(number) * scale if scale and re.match(r"[0-9]{1,15}\Z", number) else None


def _modules(domain: Element, mib: int, notes: Notes) -> None:
    for module in domain.iterfind("devices/memory"):
        model = attribute(module, "", "model")
        if model in ("dimm", "virtio-mem"):
            notes.leave_out(f"memory model {model}", f"is plain memory: the guest has all {mib} MiB from the start")
        else:
            notes.refuse(f"memory model {quoted(model)}", "Plover does not protect the contents of such a module; give the guest a disk")


def vcpus(domain: Element, notes: Notes) -> dict[str, Any]:
    """``vcpus``: those that are online at boot. (And ``guest_topology``: see :func:`topology`.)"""
    found = domain.find("vcpu")
    most = text(found) if found is not None else "1"
    now = attribute(found, "", "current") or most
    if not re.match(r"[0-9]{1,6}\Z", now) or check_value("guest_vcpus", int(now)):
        row = SETTINGS["guest_vcpus"]
        notes.refuse("vcpu", f"{quoted(now) or 'empty'} is no number of CPUs that a guest can have; choose {row.low} to {row.high}")
        return {}
    if now != most:
        notes.leave_out("vcpu", f"the guest has the {now} CPUs that are online; no further ones can be plugged in")
    if domain.find("cpu/numa") is not None:
        notes.leave_out("cpu numa", "the guest has one NUMA node")
    return {"vcpus": int(now)}


def topology(domain: Element, vcpus: int | None, notes: Notes) -> dict[str, str]:
    """The setting ``guest_topology``, if the domain says how its ``vcpus`` are arranged."""
    found = domain.find("cpu/topology")
    if found is None or vcpus is None:
        return {}
    shape = "x".join(found.get(name, "1") for name in ("sockets", "cores", "threads"))
    more = [name for name in ("dies", "clusters") if found.get(name, "1") != "1"]
    fits = not (more or check_value("guest_topology", shape) or shapes.problems({"guest_topology": shape, "guest_vcpus": vcpus}))
    if fits:
        return {"guest_topology": shape}
    told = ", ".join(f"{count} {name}" for name, count in found.attrib.items())
    notes.leave_out("cpu topology", f"{quoted(told)}: the guest's {vcpus} CPUs are arranged as QEMU does it")
    return {}


def cpu(domain: Element, notes: Notes) -> dict[str, Any]:
    """The setting ``guest_cpu``, if the domain names a model."""
    found = domain.find("cpu")
    mode = attribute(found, "", "mode") or "custom"
    if mode == "host-model":
        notes.leave_out(
            "cpu host-model",
            "stands for the CPU of libvirt's host, which the file does not name; the guest gets Plover's default model. "
            "'virsh dumpxml' of the running VM names it; or set settings.guest_cpu to a model that both hosts have",
        )
        return {}
    model = WHOLE_CPUS.get(mode, text(found, "model"))
    if found is None or not model:
        return {}
    value = ",".join([model, *_features(found, notes)])
    if problems := check_value("guest_cpu", value):
        notes.refuse("cpu", problems[0].partition(": ")[2])
        return {}
    return {"guest_cpu": value}


def _features(found: Element, notes: Notes) -> list[str]:
    out = []
    for feature in found.iterfind("feature"):
        name, policy = feature.get("name", ""), feature.get("policy", "require")
        if policy in FEATURE_SIGNS:
            out.append(FEATURE_SIGNS[policy] + FEATURE_NAMES.get(name, name))
        else:
            notes.leave_out(f"cpu feature {quoted(name)}", f"policy {quoted(policy)} depends on the host; both replicas' guests do without")
    return out


def rng(domain: Element, notes: Notes) -> dict[str, Any]:
    """The setting ``guest_rng``."""
    models = [each.get("model", "") for each in domain.iterfind("devices/rng")]
    if not models:
        return {}
    if len(models) > 1 or any(domain.iterfind("devices/rng/rate")):
        notes.leave_out("rng", "the guest has one source of random numbers, without a limit")
    return {"guest_rng": True}


POWEROFF = {"": panics.OFF, "destroy": panics.OFF, "restart": panics.RESTART}  # libvirt's word -> on_poweroff
CRASH = {"": panics.STOP, "destroy": panics.STOP, "restart": panics.RESTART, "preserve": panics.KEEP}
COREDUMP = {"coredump-destroy": panics.STOP, "coredump-restart": panics.RESTART}
PANIC_MODELS = ("isa", "pvpanic", "")  # of devices by which a guest of x86 tells it


def ends(domain: Element, notes: Notes) -> dict[str, str]:
    """``on_poweroff`` and ``on_crash``. Without a panic device libvirt never hears of a panic either."""
    wanted, out = text(domain, "on_poweroff"), {}
    if POWEROFF.get(wanted) == panics.RESTART:
        out["on_poweroff"] = panics.RESTART
    elif wanted not in POWEROFF:
        notes.leave_out("on_poweroff", f"{quoted(wanted)}: Plover does not follow it; a guest that powers itself off is off")
    models = [each.get("model", "") for each in domain.iterfind("devices/panic")]
    others = [quoted(model) for model in models if model not in PANIC_MODELS]
    if others:
        notes.leave_out("panic", f"{', '.join(others)}: the guest tells a panic by a device of model isa, or not at all")
    if len(others) < len(models):
        out["on_crash"] = _on_crash(text(domain, "on_crash"), notes)
    return out


def _on_crash(wanted: str, notes: Notes) -> str:
    if wanted in CRASH:
        return CRASH[wanted]
    if wanted in COREDUMP:
        notes.leave_out("on_crash", f"{quoted(wanted)}: nobody writes the guest's memory to a file; on_crash is {COREDUMP[wanted]}")
        return COREDUMP[wanted]
    notes.leave_out("on_crash", f"{quoted(wanted)}: Plover does not follow it; on_crash is {panics.KEEP}")
    return panics.KEEP


# ---- boot ------------------------------------------------------------------------------------------------------------
def boot(domain: Element, notes: Notes) -> dict[str, Any]:
    """The kernel that the guest boots, if it has one of its own."""
    system = domain.find("os")
    _firmware(system, notes)
    for element in children(system):
        if element.tag in OS_LEFT_OUT:
            notes.leave_out(f"os {element.tag}", OS_LEFT_OUT[element.tag])
        elif element.tag not in ("type", "loader", "nvram", "firmware", "boot", "kernel", "initrd", "cmdline", "varstore"):
            notes.refuse(f"os {quoted(element.tag)}", UNKNOWN)
    others = [quoted(each.get("dev")) for each in children(system) if each.tag == "boot" and each.get("dev") not in ("hd", "cdrom")]
    if others:
        notes.leave_out("os boot", f"{', '.join(others)}: the guest boots from its first disk, its CD, or a kernel of its own")
    if not text(system, "kernel"):
        return {}
    out = {key: text(system, key) for key in ("kernel", "initrd", "cmdline") if text(system, key)}
    images = " and ".join(key for key in out if key != "cmdline")
    notes.ask(images, "are on libvirt's host; copy the files to this machine, and write where they are")
    return out


def _firmware(system: Element | None, notes: Notes) -> None:
    loader = system.find("loader") if system is not None else None
    if attribute(system, "", "firmware") == "efi" or attribute(loader, "", "type") == "pflash":
        notes.refuse("firmware", EFI)
    elif text(loader) and not ROM_BIOS.match(text(loader)):
        notes.refuse("os loader", f"{quoted(text(loader))} is another firmware than SeaBIOS, the only one of Plover's guests")


# ---- clock and features ----------------------------------------------------------------------------------------------
def clock(domain: Element, notes: Notes) -> None:
    offset = attribute(domain, "clock", "offset") or "utc"
    if offset != "utc":
        notes.leave_out("clock", f"offset {quoted(offset)}: the guest's hardware clock begins with UTC; tell the guest so")
    timers = [timer.get("name", "") for timer in domain.iterfind("clock/timer")]
    special = [name for name in ("hypervclock", "tsc") if name in timers]
    if special:
        notes.leave_out("clock timer", f"{', '.join(special)}: the guest has QEMU's own timers")


def features(domain: Element, notes: Notes) -> None:
    names = [quoted(feature.tag) for feature in children(domain.find("features")) if feature.tag not in ("acpi", "apic", "pae")]
    if names:
        notes.leave_out("features", f"{', '.join(names)}: the guest has those that QEMU has by default; Windows may run more slowly")
