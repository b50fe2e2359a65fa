# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a backup of the configuration from the hosts' settings and the inventory, and reads it back. Pure functions."""

from __future__ import annotations

import re

from ansible_collections.plover.vmft.plugins.module_utils._ansible.secrets import OPEN, lines_of
from ansible_collections.plover.vmft.plugins.module_utils._ansible.settings import inventory_of

FORMAT = 1
# Variables that say how Ansible reaches a host, except passwords; then shared variables that the hosts do not know.
WAY = re.compile(
    r"ansible_(host|port|user|connection|become(_user|_method)?|ssh_[a-z_]+|control_path_dir|"
    r"python_interpreter)\Z"
)
PASSWORD = re.compile(r"pass")
SHARED = re.compile(
    r"plover_(wheel_dir|package_[a-z_]+|rdma_[a-z_]+|bridges?|bridge_[a-z_]+|disk_overlay_dir|"
    r"prefer_[a-z_]+)\Z"
)
# What a VM's files on the hosts are made of: the hosts know only the files.
SOURCES = ("kernel", "initrd", "cdrom", "cloud_init")


def of_host(variables):
    """A host's variables in the inventory that the host itself does not know."""
    return {key: value for key, value in sorted(variables.items()) if (WAY.match(key) or SHARED.match(key)) and not PASSWORD.search(key)}


def with_sources(vm, variables):
    """The VM as the hosts have it, with the inventory's paths of its images, if the inventory has the same VM."""
    known = next(
        (one for one in variables.get("plover_vms") or [] if one.get("name") == vm["name"] and one.get("cluster_id") == vm["cluster_id"]),
        {},
    )
    out = {**vm, **{key: known[key] for key in SOURCES if known.get(key)}}
    sources = {disk.get("path"): disk for disk in known.get("disks") or []}
    if vm.get("disks"):
        more = ("source", "size_mib")
        out["disks"] = [
            {**disk, **{key: value for key, value in sources.get(disk["path"], {}).items() if key in more}} for disk in vm["disks"]
        ]
    return out


def secret_of(texts):
    """The secret with which the members prove themselves; empty if they have none."""
    first = [next((line for line in lines_of(text) if line != OPEN), "") for text in texts]
    return next(filter(None, first), "")


def backup_of(infos, hostvars, secrets, fence_inputs=None):
    """C(infos): host -> result of plover_info. C(secrets), C(fence_inputs): host -> VM name -> text of its file."""
    inventory = inventory_of(infos)
    group = inventory["plover"]
    for child in group["children"].values():
        child["hosts"] = {host: {**of_host(hostvars[host] if host in hostvars else {}), **known} for host, known in child["hosts"].items()}
    vms = group["vars"]["plover_vms"]
    for at, vm in enumerate(vms):
        vm = with_sources(vm, hostvars[vm["primary"]] if vm["primary"] in hostvars else {})
        secret = secret_of([secrets.get(vm[seat], {}).get(vm["name"], "") for seat in ("primary", "secondary", "witness")])
        fenced = [(fence_inputs or {}).get(vm[seat], {}).get(vm["name"], "") for seat in ("primary", "secondary")]
        more = {"secret": secret, "fence_input": next(filter(None, fenced), "")}
        vms[at] = {**vm, **{key: text for key, text in more.items() if text}}
    return {"plover_backup": FORMAT, "inventory": inventory}


def inventory_from(backup):
    """The inventory in a backup; raises ValueError with the remedy."""
    if not isinstance(backup, dict) or backup.get("plover_backup") != FORMAT:
        raise ValueError(
            f"this is no backup of format {FORMAT} (plover_backup: {FORMAT}); name a file that the play plover.vmft.backup_config wrote"
        )
    inventory = backup.get("inventory")
    try:
        vms = inventory["plover"]["vars"]["plover_vms"]
        hosts = {host for child in inventory["plover"]["children"].values() for host in child["hosts"]}
        lost = sorted({vm[seat] for vm in vms for seat in ("primary", "secondary", "witness")} - hosts)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the backup is damaged ({error!r}); take another one") from error
    if lost:
        raise ValueError(f"the backup is damaged: it has no host {', '.join(lost)}; take another one")
    return inventory
