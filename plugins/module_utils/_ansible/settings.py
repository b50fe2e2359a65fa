# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts an entry of plover_vms into the settings files of the VM's members, and back. Pure.

vm_of(settings_of(vm, ...)) gives an entry that produces the same settings again, on every member.
"""

from __future__ import annotations

import re

from . import nics

IMAGES_DIR = "/var/lib/plover/images"
OVERLAY_DIR = "/run/plover-disks"
DISK_KEYS = ("path", "format", "cache", "serial", "bus")  # the runtime's keys of a disk; the other keys are for role disks
SEATS = ("primary", "secondary", "witness")
BOOT_KEYS = {
    "kernel": "guest_kernel",
    "initrd": "guest_initrd",
    "boot": "guest_boot",
    "cdrom": "guest_cdrom",
    "cloud_init": "guest_seed",
}
# Only written if they are not the default: an earlier runtime does not know them.
RARE_KEYS = {"on_poweroff": "off", "on_crash": "ignore"}
AUTO, KVM, TCG = "auto", "kvm", "tcg"  # accel of plover_vms
# What x86-64-v2 asks for, which current distributions need, and nothing more: KVM offers it on each CPU since 2009, and TCG too.
CURRENT_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
_MACHINE = re.compile(r"pc-i440fx-\d{1,3}\.\d{1,3}\Z")  # "pc" means another one to each QEMU
# Key of plover_vms -> (setting, type, default)
KEYS = {
    "port": ("port", int, 7420),
    "memory_mib": ("guest_memory_mib", int, 256),
    "vcpus": ("guest_vcpus", int, 1),
    "accel": ("guest_accel", str, "tcg"),
    "cmdline": ("guest_cmdline", str, ""),
    "addresses": ("guest_addresses", list, []),
    "tap": ("network_tap", str, nics.TAP),
}
OTHERS = (
    "name",
    "link_security",
    "cluster_id",
    "member",
    "members",
    "preferred_leader",
    "guest_mac",
    "guest_kernel",
    "guest_initrd",
    "guest_boot",
    "guest_cdrom",
    "guest_seed",
    "guest_cpu",
    *RARE_KEYS,
    "network_bridge",
    "disks",
    "disk_overlay_dir",
    "disk_overlay_mib",
)


def image_path(name, part):
    """Where role vm puts the ``part`` (kernel, initrd, cdrom or seed) of a VM. In plover_vms this path means: it is on the host already."""
    return f"{IMAGES_DIR}/{name}/{part}"


def kind_of(seat):
    return "witness" if seat == "witness" else "replica"


def settings_of(vm, member, addresses, defaults=None):
    """The settings of ``member``. ``addresses``: host -> its address on the replication link, at least for the VM's three hosts.
    ``defaults``: plover_bridge_name and plover_disk_overlay_dir of the inventory; ``cpu_unnamed``, if the VM keeps an earlier version's
    CPU; ``tcg_kept``, if it has run without KVM so far; ``machine``, the type that it was made with. Raises ValueError."""
    defaults, name = defaults or {}, vm["name"]
    bridge = defaults.get("plover_bridge_name") or nics.BRIDGE
    vm = nics.spread(vm, bridge)
    missing = [vm[seat] for seat in SEATS if not addresses.get(vm[seat])]
    if missing:
        raise ValueError(f"plover_replication_address of {', '.join(missing)}: is missing; VM {name} needs it")
    out = {setting: kind(vm.get(key, default)) for key, (setting, kind, default) in KEYS.items()}
    out.update(
        name=name,
        cluster_id=vm["cluster_id"],
        member=member,
        preferred_leader=vm["primary"],
        guest_mac=vm["mac"],
        members={vm[seat]: {"address": addresses[vm[seat]], "kind": kind_of(seat)} for seat in SEATS},
        guest_initrd=image_path(name, "initrd") if vm.get("initrd") else "",
        network_bridge=vm.get("bridge") or bridge,
        guest_accel=accel_of(vm, defaults.get("tcg_kept")),
    )
    out.update(_boot_of(vm))
    out.update({key: vm[key] for key, usual in RARE_KEYS.items() if vm.get(key) not in (None, "", usual)})
    if not defaults.get("cpu_unnamed"):
        out["guest_cpu"] = CURRENT_CPU
    if _MACHINE.match(defaults.get("machine") or ""):
        out["guest_machine"] = defaults["machine"]
    if vm.get("disks"):
        out.update(
            disks=[{key: disk[key] for key in DISK_KEYS if key in disk} for disk in vm["disks"]],
            disk_overlay_dir=defaults.get("plover_disk_overlay_dir") or OVERLAY_DIR,
            disk_overlay_mib=int(vm.get("disk_overlay_mib", 256)),
        )
    # Without it links are not encrypted, and a runtime that knows no TLS takes the settings too.
    if (vm.get("link_security") or "tls") != "none":
        out["link_security"] = "tls"
    return {**out, **(vm.get("settings") or {})}


def accel_of(vm, tcg_kept):
    """The accelerator of a VM. Without KVM it is many times slower, so that is only chosen by name, or was so already."""
    given = vm.get("accel") or AUTO
    return (TCG if tcg_kept else KVM) if given == AUTO else given


def _boot_of(vm):
    """What the VM boots from. An earlier runtime does not know the other settings, so they are only there if they are needed."""
    name = vm["name"]
    if vm.get("kernel"):
        out = {"guest_kernel": image_path(name, "kernel")}
    else:
        out = {"guest_boot": vm.get("boot") or "disk"}
    if vm.get("cdrom"):
        out["guest_cdrom"] = image_path(name, "cdrom")
    if vm.get("cloud_init"):
        out["guest_seed"] = image_path(name, "seed")
    return out


def vm_of(settings):
    """The entry of plover_vms that produces these settings; kernel, initrd, cdrom and cloud_init are their paths on the replicas."""
    members, primary = settings["members"], settings["preferred_leader"]
    out = {
        "name": settings["name"],
        "primary": primary,
        "cluster_id": settings["cluster_id"],
        "mac": settings["guest_mac"],
        "secondary": next(m for m, v in members.items() if v["kind"] == "replica" and m != primary),
        "witness": next(m for m, v in members.items() if v["kind"] == "witness"),
        "bridge": settings.get("network_bridge", nics.BRIDGE),
        "link_security": settings.get("link_security", "none"),
    }
    for key, setting in BOOT_KEYS.items():
        if settings.get(setting):
            out[key] = settings[setting]
    out.update({key: settings.get(setting, default) for key, (setting, _kind, default) in KEYS.items()})
    out.update({key: settings[key] for key in RARE_KEYS if key in settings})
    if settings.get("disks"):
        out.update(disks=settings["disks"], disk_overlay_mib=settings.get("disk_overlay_mib", 256))
    known = {*OTHERS, *(setting for setting, _kind, _default in KEYS.values())}
    if settings.get("guest_cpu") != CURRENT_CPU:
        known -= {"guest_cpu"}
    rest = {key: settings[key] for key in settings if key not in known}
    return nics.gathered({**out, **({"settings": rest} if rest else {})})


def hosts_of(settings):
    """Variables of the VM's hosts, from its settings: host -> {plover_replication_address, …}."""
    return {host: {"plover_replication_address": member["address"]} for host, member in settings["members"].items()}


def variables_of(settings):
    """Variables of the whole inventory, from a VM's settings."""
    overlays = settings.get("disk_overlay_dir")
    return {"plover_disk_overlay_dir": overlays} if overlays and overlays != OVERLAY_DIR else {}


def bridge_of(text):
    """plover_bridge_* of a host from its /etc/plover/bridge.conf."""
    names = {"BRIDGE": "plover_bridge_name", "MEMBER": "plover_bridge_member"}
    pairs = [line.strip().partition("=") for line in text.splitlines()]
    return {names[key]: value.strip("'\"") for key, _equals, value in pairs if key in names and value}


def inventory_of(infos):
    """An inventory, as a dictionary, from the results of plover_info (host -> result). It has no ansible_host and the like, as
    Plover does not know how Ansible reaches the hosts."""
    vms, hosts, variables = {}, {}, {}
    for host, info in sorted(infos.items()):
        hosts.setdefault(host, {}).update(info.get("host") or {})
        for name, found in sorted(info.get("vms", {}).items()):
            configuration = found["configuration"]
            # A replica's settings win: a witness's may name another bridge.
            if name not in vms or found["kind"] == "replica":
                vms[name] = configuration["vm"]
            for member, more in configuration["hosts"].items():
                hosts.setdefault(member, {}).update(more)
            variables.update(configuration["variables"])
    replicas = {vm[seat] for vm in vms.values() for seat in ("primary", "secondary")}
    return {
        "plover": {
            "children": {
                "plover_replicas": {"hosts": {host: hosts[host] for host in sorted(replicas)}},
                "plover_witnesses": {"hosts": {host: hosts[host] for host in sorted(set(hosts) - replicas)}},
            },
            "vars": {**variables, "plover_vms": [vms[name] for name in sorted(vms)]},
        }
    }
