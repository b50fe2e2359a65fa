# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that beginners make in an inventory. Each is the shipped example with one thing wrong, and what must be said of it:
exactly one line, with the variable's name and the remedy. The pure function and the real play are both run on this table.
"""

from __future__ import annotations

import os
import sys

from .inventory import (
    HERE,
    IMAGE,
    Case,
    both,
    disk,
    group_outside,
    host,
    move,
    only_for,
    second,
    settings,
    shared,
    swap_in_groups,
    vm,
)

AT = "plover_vms[0]"
CASES = [
    # hosts
    Case(
        "same host twice",
        vm(secondary="primary"),
        AT,
        "name another host for one of them",
        "primary, secondary and witness must be three different hosts, not primary, primary, witness",
    ),
    Case("the witness on a replica's host", vm(witness="secondary"), AT, "name another host", "must be three different hosts"),
    Case(
        "a host that is not there",
        vm(witness="nowhere"),
        f"{AT}.witness",
        "add it, or name another",
        "host nowhere is not in the inventory",
    ),
    Case("a host misspelt", vm(primary="primray"), f"{AT}.primary", "did you mean primary?"),
    Case("a host that is no name", vm(primary=["primary"]), f"{AT}.primary", "must be the name of a host"),
    Case(
        "roles swapped in the VM",
        vm(primary="witness", witness="primary"),
        AT,
        "write primary: primary, witness: witness",
        "primary and witness are swapped",
    ),
    Case("roles swapped in the groups", swap_in_groups, AT, "write primary: witness, witness: primary", "are swapped"),
    Case(
        "the witness among the replicas",
        move("witness", "plover_witnesses", "plover_replicas"),
        f"{AT}.witness",
        "move it to plover_witnesses",
        "witness is in group plover_replicas only",
    ),
    Case(
        "a replica among the witnesses",
        move("secondary", "plover_replicas", "plover_witnesses"),
        f"{AT}.secondary",
        "move it to plover_replicas",
        "secondary is in group plover_witnesses only",
    ),
    Case("a group outside", group_outside, "group plover_witnesses", "make plover_witnesses one of its children"),
    Case(
        "two names of one machine",
        host("secondary", ansible_host="192.168.77.11"),
        "ansible_host of secondary",
        "correct one of them",
        "192.168.77.11 is that of primary too",
    ),
    Case(
        "one replication address twice",
        host("witness", plover_replication_address="192.168.78.11"),
        "plover_replication_address of witness",
        "give each host its own",
        "is that of primary too",
    ),
    Case(
        "no replication address",
        host("witness", plover_replication_address=...),
        "plover_replication_address of witness",
        "must be its IPv4 address on the replication link",
        "is missing",
    ),
    Case(
        "a replication address with prefix",
        host("primary", plover_replication_address="192.168.78.11/24"),
        "plover_replication_address of primary",
        "without prefix",
    ),
    Case(
        "a replication address that is a name",
        host("primary", plover_replication_address="primary.example.org"),
        "plover_replication_address of primary",
        "must be its IPv4 address",
    ),
    Case(
        "localhost as replication address",
        host("primary", plover_replication_address="127.0.0.1"),
        "plover_replication_address of primary",
        "must be its IPv4 address",
    ),
    # variables
    Case("no VMs", shared(plover_vms=None), "plover_vms", "list the VMs to protect"),
    Case("VMs as a mapping", shared(plover_vms={"demo": {}}), "plover_vms", "must be a list, each VM like"),
    Case("a VM as a text", shared(plover_vms=["demo"]), AT, "must be a mapping, each VM like"),
    Case("VMs on some hosts only", only_for("primary", "secondary"), "plover_vms of witness", "set it once, in the vars of group plover"),
    Case(
        "a variable misspelt",
        shared(plover_bridge_nmae="br1"),
        "plover_bridge_nmae of primary, secondary, witness",
        "did you mean plover_bridge_name?",
    ),
    Case(
        "the address variable misspelt",
        both(host("primary", plover_replication_address=...), host("primary", plover_replication_adress="192.168.78.11")),
        "plover_replication_adress of primary",
        "did you mean plover_replication_address?",
    ),
    Case("a variable that no role knows", shared(plover_colour="red"), "plover_colour", "remove it"),
    Case("another variable's name", shared(plover_bridge="br0"), "plover_bridge of", "write plover_bridge_name"),
    Case(
        "an unknown RDMA stack",
        shared(plover_rdma_stack="ofed"),
        "plover_rdma_stack of primary, secondary, witness",
        "choose one",
        "ofed is not one of none, distro, soft-roce, mlnx",
    ),
    Case("a truth value that is none", shared(plover_rdma_reboot="perhaps"), "plover_rdma_reboot", "must be true or false"),
    Case("a relative folder", shared(plover_disk_overlay_dir="overlays"), "plover_disk_overlay_dir", "must be a whole path"),
    Case(
        "a bridge's name that is too long",
        shared(plover_bridge_member="a-card-with-a-long-name"),
        "plover_bridge_member",
        "at most 15 letters",
    ),
    Case(
        "a template that fails",
        shared(plover_wheel_dir="{{ no_such_variable }}/wheels"),
        "plover_wheel_dir",
        "correct it",
        "its template fails",
    ),
    # the VM
    Case("no kernel", vm(kernel=...), f"{AT}.kernel", "every VM needs it", "is missing"),
    Case(
        "a kernel that is not there",
        vm(kernel="/no/such/vmlinuz"),
        f"{AT}.kernel",
        "give the path of the image",
        "/no/such/vmlinuz is not a file on this machine",
    ),
    Case(
        "an uncompressed kernel",
        vm(kernel=os.path.realpath(sys.executable)),
        f"{AT}.kernel",
        "give the compressed kernel",
        "is an ELF file (vmlinux)",
    ),
    Case("a relative kernel", vm(kernel="images/vmlinuz"), f"{AT}.kernel", '"{{ inventory_dir }}/images/vmlinuz"', "is relative"),
    Case("an initrd that is not there", vm(initrd="/no/such/initrd"), f"{AT}.initrd", "give the path of the image"),
    Case("no MAC", vm(mac=...), f"{AT}.mac", "every VM needs it", "is missing"),
    Case("a multicast MAC", vm(mac="01:00:5e:00:00:01"), f"{AT}.mac", "must be a unicast MAC address"),
    Case("a MAC without quotes", vm(mac=52540070), f"{AT}.mac", "in quotes"),
    Case("no UUID", vm(cluster_id="me"), f"{AT}.cluster_id", "make one with uuidgen"),
    Case("a name with a blank", vm(name="my VM"), f"{AT}.name", "lower-case letters, digits and dashes"),
    Case("an unknown accelerator", vm(accel="hvf"), f"{AT}.accel", "must be kvm or tcg"),
    Case("memory with a unit", vm(memory_mib="1G"), f"{AT}.memory_mib", "must be a whole number", "1G"),
    Case("too little memory", vm(memory_mib=8), f"{AT}.memory_mib", "32 to 1048576"),
    Case("no vCPU", vm(vcpus=0), f"{AT}.vcpus", "1 to 255"),
    Case("a privileged port", vm(port=80), f"{AT}.port", "1024 to 65535"),
    Case("an address with prefix", vm(addresses=["192.168.79.50/24"]), f"{AT}.addresses", "without a prefix length"),
    Case("addresses as a text", vm(addresses="192.168.79.50"), f"{AT}.addresses", "like [192.168.79.50]"),
    Case(
        "a host's address",
        vm(addresses=["192.168.78.11"]),
        f"{AT}.addresses",
        "give the VM an address of its own",
        "is the plover_replication_address of primary",
    ),
    Case("a key misspelt", vm(memroy_mib=512), f"{AT}.memroy_mib", "did you mean memory_mib?", "is not known"),
    Case("a required key misspelt", vm(mac=..., mca="52:54:00:70:6c:01"), f"{AT}.mca", "did you mean mac?"),
    Case("a setting as key", vm(failover_budget_ms=2000), f"{AT}.failover_budget_ms", f"put it under {AT}.settings"),
    Case("the runtime's name of a key", vm(guest_vcpus=2), f"{AT}.guest_vcpus", "write vcpus"),
    Case("a secret that is too short", vm(secret="geheim"), f"{AT}.secret", "openssl rand -hex 32"),
    Case("links without encryption, misspelt", vm(link_security="off"), f"{AT}.link_security", "must be tls or none"),
    Case("a number as link security", vm(link_security=0), f"{AT}.link_security", "must be tls or none"),
    Case("link security as setting", settings(link_security="none"), f"{AT}.settings.link_security", f"give it as {AT}.link_security"),
    Case("the roles' folder as setting", settings(tls_folder="/srv/tls"), f"{AT}.settings.tls_folder", "set link_security of the VM"),
    Case(
        "RDMA on a network that nobody called trusted",
        settings(transport="rdma"),
        f"{AT}.settings.rdma_trusted_network",
        "set it to true if nobody but the members can reach the RDMA network",
        "sends guest memory and the log unencrypted",
    ),
    Case(
        "a trusted network that is no truth",
        settings(transport="rdma", rdma_trusted_network="perhaps"),
        f"{AT}.settings.rdma_trusted_network",
        "must be true or false",
    ),
    Case("a TAP's name that is too long", vm(tap="the-tap-of-the-demo"), f"{AT}.tap", "it must match"),
    # settings
    Case("settings as a text", vm(settings="fast"), f"{AT}.settings", "must be a mapping"),
    Case("a setting misspelt", settings(failover_budget=2000), f"{AT}.settings.failover_budget", "did you mean failover_budget_ms?"),
    Case(
        "a setting of another type",
        settings(failover_budget_ms="2 s"),
        f"{AT}.settings.failover_budget_ms",
        "must be a whole number, 300 to 60000",
    ),
    Case("an unknown transport", settings(transport="rmda"), f"{AT}.settings.transport", "tcp, rdma", "rmda is not one of tcp, rdma"),
    Case(
        "a budget that is too short",
        settings(failover_budget_ms=400, detection_ms=200),
        f"{AT}.settings.failover_budget_ms",
        "raise failover_budget_ms to",
    ),
    Case(
        "a fence policy without agent", settings(fence_policy="required"), f"{AT}.settings.fence_command", "give the agent or set it to off"
    ),
    Case(
        "a hook that no shell looks for",
        settings(on_event_command=["plover-event"]),
        f"{AT}.settings.on_event_command",
        "must be an absolute path",
    ),
    Case(
        "a password of a webhook",
        settings(on_event_url="https://me:hush@events.example.com/"),
        f"{AT}.settings.on_event_url",
        "use on_event_command, and let that read them from a file of its own",
    ),
    Case("a key as setting", settings(port=7500), f"{AT}.settings.port", f"give it as {AT}.port"),
    Case("the members as setting", settings(preferred_leader="secondary"), f"{AT}.settings.preferred_leader", "set primary of the VM"),
    # several VMs
    Case("a name twice", second(name="demo"), "plover_vms[1].name", "each needs its own", "demo is used by two VMs"),
    Case("a MAC twice", second(mac="52:54:00:70:6c:01"), "plover_vms[1].mac", "each needs its own"),
    Case(
        "a group's UUID twice", second(cluster_id="6f9619ff-8b86-4d01-b42d-00cf4fc964ff"), "plover_vms[1].cluster_id", "each needs its own"
    ),
    Case("a guest's address twice", second(addresses=["192.168.79.50"]), "plover_vms[1].addresses", "each needs its own"),
    Case(
        "the default port twice",
        second(port=None),
        "plover_vms[1].port",
        "give each its own, like 7421",
        "7420 is used twice on primary, secondary, witness, by plover_vms[0] too",
    ),
    Case(
        "the default TAP twice",
        second(tap=None),
        "plover_vms[1].tap",
        "give each VM its own",
        "plover0 is used twice on primary, secondary",
    ),
    Case(
        "the witness's port twice",
        both(second(port=None, primary="secondary", secondary="primary", tap="t2")),
        "plover_vms[1].port",
        "give each its own",
    ),
    Case(
        "one image for two VMs",
        both(vm(disks=[IMAGE]), second(disks=[IMAGE])),
        "plover_vms[1].disks[0].path",
        "give each its own",
        "/srv/a.img is the image of two disks on primary, secondary",
    ),
    # disks
    Case("too small overlays", vm(disks=[IMAGE], disk_overlay_mib=4), f"{AT}.disk_overlay_mib", "8 to 1048576", "4 must be whole MiB"),
    Case(
        "overlays as setting",
        vm(disks=[IMAGE], settings={"disk_overlay_mib": 64}),
        f"{AT}.settings.disk_overlay_mib",
        f"give it as {AT}.disk_overlay_mib",
    ),
    Case("disks as a mapping", vm(disks=IMAGE), f"{AT}.disks", "must be a list"),
    Case("a disk as a text", vm(disks=["/srv/a.img"]), f"{AT}.disks", "must be a list"),
    Case(
        "one image for two disks",
        vm(disks=[IMAGE, IMAGE]),
        f"{AT}.disks[1].path",
        "give each its own",
        "the image of two disks on primary, secondary",
    ),
    Case(
        "too many disks", vm(disks=[{**IMAGE, "path": f"/srv/{n}.img"} for n in range(17)]), f"{AT}.disks", "at most 16", "17 are too many"
    ),
    Case("a disk without image", disk(path=...), f"{AT}.disks[0].path", "give the image's place"),
    Case(
        "a relative image", disk(path="a.img"), f"{AT}.disks[0].path", "like /var/lib/plover-images/demo.img", "a.img must be a whole path"
    ),
    Case("a disk's key misspelt", disk(sise_mib=1), f"{AT}.disks[0].sise_mib", "did you mean size_mib?"),
    Case("an unknown format", disk(format="vmdk"), f"{AT}.disks[0].format", "raw, qcow2"),
    Case("an unknown cache", disk(cache="unsafe"), f"{AT}.disks[0].cache", "writeback, none"),
    Case("an unknown bus", disk(bus="scsi"), f"{AT}.disks[0].bus", "virtio-blk, ide"),
    Case("a serial that is a number", disk(serial=7), f"{AT}.disks[0].serial", "put a number in quotes"),
    Case("a size with a unit", disk(size_mib="1G"), f"{AT}.disks[0].size_mib", "must be whole MiB"),
    Case("a source and a size", disk(source=HERE), f"{AT}.disks[0].size_mib", "remove one of the two"),
    Case(
        "a source that is not there",
        disk(size_mib=..., source="/no/such"),
        f"{AT}.disks[0].source",
        "give the path of the image",
        "/no/such is not a file on this machine",
    ),
    Case(
        "a relative source", disk(size_mib=..., source="demo.img"), f"{AT}.disks[0].source", '"{{ inventory_dir }}/demo.img"', "is relative"
    ),
    Case(
        "a source of another format",
        disk(size_mib=..., source=HERE, format="qcow2"),
        f"{AT}.disks[0].format",
        "correct",
        f"qcow2 is not what {HERE} is",
    ),
]
TITLES = [case.title for case in CASES]
