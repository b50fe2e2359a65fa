# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of an inventory: keys of a VM and of a disk, and variables that several roles share.

This is the only such list: a new shared variable or VM key is a new line here.
"""

from __future__ import annotations

import difflib
import re

SEATS = ("primary", "secondary", "witness")
REPLICA_SEATS = SEATS[:2]
VMS_MAX, DISKS_MAX = 64, 16
GROUP, REPLICAS, WITNESSES = "plover", "plover_replicas", "plover_witnesses"

VM_REQUIRED = ("name", *SEATS, "cluster_id")
VM_KEYS = (
    *VM_REQUIRED,
    "mac",
    "nics",
    "kernel",
    "initrd",
    "cmdline",
    "firmware",
    "boot",
    "cdrom",
    "cloud_init",
    "addresses",
    "memory_mib",
    "vcpus",
    "accel",
    "on_poweroff",
    "on_crash",
    "port",
    "bridge",
    "tap",
    "settings",
    "disks",
    "disk_overlay_mib",
    "secret",
    "fence_input",
    "link_security",
)
SECRET_KEYS = ("secret", "fence_input", "cloud_init")
CLOUD_INIT_KEYS = ("user_data", "meta_data", "network_config")
# Keys that people write, and why there is no such key.
NO_KEYS = {
    "balloon": "a guest that gives memory back would differ from its copy; remove it, and set memory_mib to what it needs",
    "hugepages": "its memory is a file in shm_dir, whose pages of 4 KiB are what Plover compares; remove it",
    "guest_agent": "its channel would be open on one host alone, and its answers would leave before it is safe; remove it, and use SSH",
    "vlan": "make a bridge of that VLAN on both hosts (plover_bridges), and name it as bridge",
    "topology": "it is a runtime setting: settings: {guest_topology: 1x4x2}",
    "iso": "write cdrom",
    "user_data": "write it as cloud_init: {user_data: …}",
    "nic": "write nics, a list with a mapping for each card",
    "networks": "write nics, a list with a mapping for each card",
    "source": "an image belongs to a disk: write disks: [{path: …, source: …}]",
    "cpu": "it is a runtime setting: settings: {guest_cpu: …}",
}
# VM key -> the runtime's setting made from it. The collision checks read the key, so `settings` must not override the setting.
SETTING_OF = {
    "name": "name",
    "cluster_id": "cluster_id",
    "port": "port",
    "memory_mib": "guest_memory_mib",
    "vcpus": "guest_vcpus",
    "accel": "guest_accel",
    "mac": "guest_mac",
    "kernel": "guest_kernel",
    "initrd": "guest_initrd",
    "cmdline": "guest_cmdline",
    "boot": "guest_boot",
    "cdrom": "guest_cdrom",
    "cloud_init": "guest_seed",
    "addresses": "guest_addresses",
    "on_poweroff": "on_poweroff",
    "on_crash": "on_crash",
    "bridge": "network_bridge",
    "tap": "network_tap",
    "disks": "disks",
    "disk_overlay_mib": "disk_overlay_mib",
    "link_security": "link_security",
}
# Settings that the roles make from something other than a VM key.
SETTING_FROM = {
    "member": "primary, secondary and witness of the VM",
    "members": "plover_replication_address of each host",
    "preferred_leader": "primary of the VM",
    "disk_overlay_dir": "the variable plover_disk_overlay_dir",
    "tls_folder": "link_security of the VM",
    "further_nics": "nics of the VM",
}

DISK_KEYS = ("path", "format", "cache", "serial", "bus", "source", "size_mib")
DISK_CHOICES = {"format": ("raw", "qcow2"), "cache": ("writeback", "none"), "bus": ("virtio-blk", "virtio-scsi", "ide")}
RDMA_STACKS = ("none", "distro", "soft-roce", "mlnx")

# Shared variables and their values: a kind, or the choices. "any": another role checks the value.
VARIABLES = {
    "plover_vms": "any",
    "plover_replication_address": "any",
    "plover_bridge_name": "interface",
    "plover_bridge_member": "interface",
    "plover_bridges": "list",
    "plover_bridge_manager": ("auto", "netplan", "networkmanager", "networkd", "ifupdown", "plover"),
    "plover_bridge_rollback_s": "any",
    "plover_firewall": ("auto", "nft", "firewalld", "ufw", "off"),
    "plover_monitoring": "bool",
    "plover_disk_overlay_dir": "path",
    "plover_wheel_dir": "str",
    "plover_package_dir": "str",
    "plover_package_mirror": "any",
    "plover_package_mirror_key": "str",
    "plover_secret": "any",
    "plover_secrets": "any",
    "plover_confirm": "any",
    "plover_vm_name": "str",  # from here on: variables of the day-2 plays
    "plover_host": "str",
    "plover_away_from": "str",
    "plover_rollback_to": "str",
    "plover_rotate": "any",
    "plover_qemu_release": "str",
    "plover_prefer_primaries": "bool",
    "plover_status_strict": "bool",
    "plover_timeout_s": "any",
    "plover_backup_file": "str",
    "plover_inventory_file": "str",
    "plover_rdma_stack": RDMA_STACKS,
    "plover_rdma_packages": "list",
    "plover_rdma_modules": "list",
    "plover_rdma_load_modules": "bool",
    "plover_rdma_rxe_device": "str",
    "plover_rdma_rxe_interface": "str",
    "plover_rdma_mlnx_archive": "str",
    "plover_rdma_mlnx_sha256": "str",
    "plover_rdma_mlnx_version": "str",
    "plover_rdma_mlnx_options": "list",
    "plover_rdma_restart": "bool",
    "plover_rdma_reboot": "bool",
    "plover_rdma_remove_packages": "bool",
}
# Variables of the day-2 plays: given with -e, or set by the plays themselves.
PLAY_VARIABLES = (
    "plover_vm_name",
    "plover_shutdown_s",
    "plover_boot_s",
    "plover_host",
    "plover_away_from",
    "plover_back_to",
    "plover_backup_file",
    "plover_inventory_file",
    "plover_libvirt_file",
    "plover_libvirt_bridge",
    "plover_libvirt_machine",
    "plover_entry_file",
    "plover_primary",
    "plover_secondary",
    "plover_witness",
    "plover_prefer_primaries",
    "plover_rollback_to",
    "plover_rotate",
    "plover_status_strict",
    "plover_timeout_s",
    "plover_only",
    "plover_seen",
    "plover_infos",
    "plover_versions",
    "plover_price",
    "plover_restored",
    "plover_secret_files",
    "plover_secret_texts",
    "plover_fence_texts",
    "plover_disks",
    "plover_lines",
    "plover_rows",
    "plover_role",
    "plover_member",
)
# Old variables and frequent mistakes -> what to write instead.
REMOVED = {
    "plover_bridge": "plover_bridge_name",
    "plover_address": "plover_replication_address",
    "plover_vm": "plover_vms, a list",
}

_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")
_TRUTH = ("yes", "no", "true", "false", "on", "off", "1", "0", "y", "n", "t", "f")


def close_to(word, known):
    """A sentence's end that suggests the closest known word; empty if none is close."""
    prefix = "plover_" if str(word).startswith("plover_") else ""  # it makes all of them alike
    names = {str(name)[len(prefix) :]: name for name in known if str(name).startswith(prefix)}
    found = difflib.get_close_matches(str(word)[len(prefix) :], names, n=1, cutoff=0.65)
    return f"did you mean {names[found[0]]}?" if found else ""


def unplaced(path):
    """The problem of a relative path of an image on this machine: Ansible would look for it beside the play. Empty if absolute."""
    if path.startswith(("/", "~")):
        return ""
    return f'{path} is relative, and nobody knows to what; write it as "{{{{ inventory_dir }}}}/{path}", if it lies beside the inventory'


def unfit(kind, value):
    """The problem of a shared variable's value; empty if there is none."""
    if isinstance(kind, tuple):
        return "" if ("off" if value is False else value) in kind else f"{value} is not one of {', '.join(kind)}; choose one"
    checks = {
        "any": lambda v: True,
        "str": lambda v: isinstance(v, str),
        "path": lambda v: isinstance(v, str) and v.startswith("/"),
        "interface": lambda v: isinstance(v, str) and bool(_INTERFACE.match(v)),
        "list": lambda v: isinstance(v, list),
        "bool": lambda v: isinstance(v, bool) or str(v).lower() in _TRUTH,
    }
    wanted = {
        "str": "must be a text; put it in quotes",
        "path": "must be a whole path, beginning with /",
        "interface": "must be a network interface's name: at most 15 letters, digits and _.-",
        "list": "must be a list, like [a, b]",
        "bool": "must be true or false",
    }
    return "" if checks[kind](value) else f"{value} {wanted[kind]}"
