# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that cannot do their part, made so for real on the lab's hosts; and what must be said of each: one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .inventory import Change, disk, host, settings, shared, vm

REPLICAS = ("primary", "secondary")
# A program in QEMU's place that says what QEMU says when it is asked for its version and what it was built with.
OTHER_QEMU = """cat >/usr/bin/qemu-system-x86_64 <<'END'
#!/bin/sh
case $1 in
--version) echo "QEMU emulator version {version} (Debian 1:{version})" ;;
-accel) printf 'Accelerators supported in QEMU binary:\\ntcg\\nkvm\\n' ;;
-machine) printf 'Supported machines are:\\npc   Standard PC\\n' ;;
-netdev) printf 'Available netdev backend types:\\n{netdev}\\ntap\\n' ;;
-object) printf 'List of user creatable objects:\\n  memory-backend-file\\n' ;;
esac
END
chmod +x /usr/bin/qemu-system-x86_64"""
NO_QEMU = "rm -f /usr/bin/qemu-system-x86_64"
LISTEN = (
    "nohup python3 -c 'import socket, time; s = socket.create_server((\"0.0.0.0\", {port})); time.sleep(600)' "
    ">/dev/null 2>&1 & echo $! >/run/listener; sleep 0.3"
)
NO_LISTENER = "kill $(cat /run/listener); rm /run/listener"
VISITOR = "useradd -m visitor && cp -r /root/.ssh /home/visitor/ && chown -R visitor: /home/visitor/.ssh"
NO_VISITOR = "pkill -KILL -u visitor; sleep 0.3; userdel -r visitor 2>/dev/null; ! id visitor 2>/dev/null"


class Case(NamedTuple):
    """``before`` and ``after``: host -> the command that makes the fault there, and the one that mends it."""

    title: str
    starts: str
    remedy: str
    change: Change = lambda inventory: None
    before: dict[str, str] = {}
    after: dict[str, str] = {}


def on(hosts: tuple[str, ...], before: str, after: str) -> dict[str, dict[str, str]]:
    return {"before": dict.fromkeys(hosts, before), "after": dict.fromkeys(hosts, after)}


def tmpfs(name: str, folder: str, options: str, fill: str = "") -> dict[str, dict[str, str]]:
    return on((name,), f"mkdir -p {folder} && mount -t tmpfs -o {options} tmpfs {folder}; {fill or 'true'} || true", f"umount {folder}")


def covered(device: str, *hosts: str) -> dict[str, dict[str, str]]:
    """The device does nothing."""
    return on(hosts, f"test -e {device} || touch {device}; mount --bind /dev/null {device}", f"umount {device}")


def without_member() -> Callable:
    def change(inventory):
        del inventory["plover"]["children"]["plover_replicas"]["vars"]["plover_bridge_member"]

    return change


def replicas(**values) -> Callable:
    return lambda inventory: inventory["plover"]["children"]["plover_replicas"]["vars"].update(values)


CASES = [
    # the way to the hosts
    Case(
        "a wrong SSH user",
        "primary, secondary, witness: ansible_user: nosuch is not let in",
        "correct ansible_user",
        shared(ansible_user="nosuch"),
    ),
    Case(
        "an SSH user who is not root",
        "primary: ansible_user: visitor is not root on this host",
        "set ansible_become: true",
        host("primary", ansible_user="visitor"),
        **on(("primary",), VISITOR, NO_VISITOR),
    ),
    Case(
        "become without sudo",
        "primary: ansible_become: visitor does not become root",
        "let sudo do without",
        host("primary", ansible_user="visitor", ansible_become=True),
        **on(("primary",), VISITOR, NO_VISITOR),
    ),
    Case(
        "a wrong address",
        "secondary: ansible_host: nothing is reached at 192.168.77.99",
        "correct ansible_host",
        host("secondary", ansible_host="192.168.77.99"),
    ),
    Case(
        "no Python",
        "witness: ansible_python_interpreter: there is no Python to run",
        "install python3",
        host("witness", ansible_python_interpreter="/usr/bin/python9"),
    ),
    # the network
    Case(
        "a wrong interface",
        "primary, secondary: plover_bridge_member: there is no card nosuch0, and no bridge br0 either",
        "name one of",
        replicas(plover_bridge_member="nosuch0"),
    ),
    Case(
        "no bridge and no interface for it",
        "primary, secondary: plover_bridge_member: is missing, and there is no bridge br0",
        "name one of",
        without_member(),
    ),
    Case(
        "a bridge that is a card",
        "primary, secondary: plover_bridge_name: svc0 is no bridge",
        "choose another name",
        replicas(plover_bridge_name="svc0"),
    ),
    Case(
        "a VM's bridge that is not there",
        "primary, secondary: plover_bridges: is missing, and there is no bridge br7",
        "name one of",
        vm(bridge="br7"),
    ),
    Case(
        "an interface of another bridge",
        "primary: plover_bridge_member: svc0 belongs to br9 already",
        "name that as the bridge",
        **on(("primary",), "ip link add br9 type bridge && ip link set svc0 master br9", "ip link del br9"),
    ),
    Case(
        "the loopback as interface",
        "primary, secondary: plover_bridge_member: lo is no card",
        "name one of",
        replicas(plover_bridge_member="lo"),
    ),
    Case(
        "another host's replication address",
        "witness: plover_replication_address: 192.168.78.99 is on no card of this host",
        "name one of them",
        host("witness", plover_replication_address="192.168.78.99"),
    ),
    Case(
        "a replication link that is down",
        "secondary: plover_replication_address: the card of 192.168.78.12, ft0, is down",
        "bring it up",
        **on(("secondary",), "ip link set ft0 down", "ip link set ft0 up"),
    ),
    Case(
        "different MTUs",
        "demo: plover_replication_address: the MTU of its card is 1500 on primary, witness, 1400 on secondary",
        "make it equal",
        **on(("secondary",), "ip link set ft0 mtu 1400", "ip link set ft0 mtu 1500"),
    ),
    Case(
        "a port in use",
        "secondary: port: 7420 is in use here by process",
        "choose another one",
        **on(("secondary",), LISTEN.format(port=7420), NO_LISTENER),
    ),
    Case(
        "the witness's port in use",
        "witness: port: 7555 is in use here by process",
        "choose another one",
        vm(port=7555),
        **on(("witness",), LISTEN.format(port=7555), NO_LISTENER),
    ),
    Case(
        "RDMA without a device",
        "primary, secondary, witness: plover_rdma_stack: none, but the transport of demo is rdma",
        "set it to distro, mlnx or soft-roce (role ofed), or settings.transport of demo to tcp",
        settings(transport="rdma", rdma_trusted_network=True),
    ),
    # what a member needs to start
    Case(
        "no user for QEMU",
        "primary, secondary: settings.qemu_user: there is no user nosuch on this host",
        "create it, or remove the setting",
        settings(qemu_user="nosuch"),
    ),
    Case(
        "no secret",
        "primary, secondary, witness: settings.secret_file: /etc/no-secret is not on this host",
        "put the same file there on all three hosts",
        settings(secret_file="/etc/no-secret"),
    ),
    Case(
        "no AppArmor",
        "primary, secondary: settings.qemu_apparmor: on, but this host cannot confine QEMU: its kernel has no AppArmor",
        "or set it to auto",
        settings(qemu_apparmor="on"),
    ),
    # memory, kernel, QEMU
    Case(
        "more memory than there is", "primary, secondary: memory_mib: the VMs need 999999 MiB", "make them smaller", vm(memory_mib=999_999)
    ),
    Case(
        "more memory than the tmpfs",
        "primary, secondary: memory_mib: the VMs need 2060 MiB in /dev/shm, which holds 2048",
        "remount it with a larger size",
        vm(memory_mib=2060),
    ),
    Case(
        "no KVM",
        "primary, secondary: accel: kvm does not work on this host: /dev/kvm: Inappropriate ioctl",
        "set accel: tcg",
        vm(accel="kvm"),
        **covered("/dev/kvm", *REPLICAS),
    ),
    Case(
        "no KVM, and no accelerator named",
        "primary, secondary: accel: kvm does not work on this host: /dev/kvm: Inappropriate ioctl",
        "set accel: tcg",
        vm(accel=None),
        **covered("/dev/kvm", *REPLICAS),
    ),
    Case(
        "no dirty tracking",
        "secondary: settings.syncvm_dirty_tracking: uffd-wp does not work on this host",
        "set it to auto or scan",
        vm(settings={"syncvm_dirty_tracking": "uffd-wp"}),
        **covered("/dev/userfaultfd", "secondary"),
    ),
    Case(
        "different QEMU versions",
        "demo: QEMU is 7.2.22 and 8.2.0 on primary and secondary",
        "install one version on both (qemu_packages, package qemu-system-x86)",
        before={
            name: OTHER_QEMU.format(version=version, netdev="stream") for name, version in zip(REPLICAS, ("7.2.22", "8.2.0"), strict=True)
        },
        after=dict.fromkeys(REPLICAS, NO_QEMU),
    ),
    Case(
        "a QEMU that is too old",
        "primary, secondary: qemu_packages: /usr/bin/qemu-system-x86_64 (6.2.0) was built without -netdev stream",
        "install the distribution's QEMU, 7.2 or newer",
        **on(REPLICAS, OTHER_QEMU.format(version="6.2.0", netdev="socket"), NO_QEMU),
    ),
    # disks
    Case(
        "a full disk",
        "primary: prechecks_free_mib: the disk is full: 0 MiB are free for /opt, 64 MiB are needed",
        "free some space there",
        **tmpfs("primary", "/opt", "size=1M", "head -c 2M /dev/zero >/opt/filled 2>/dev/null"),
    ),
    Case(
        "a disk without inodes",
        "witness: prechecks_free_mib: the disk is full: no inode is free for /opt",
        "remove files there",
        **tmpfs("witness", "/opt", "size=200M,nr_inodes=1"),
    ),
    Case("a read-only disk", "secondary: prechecks_free_mib: /opt cannot be written to", "remount it", **tmpfs("secondary", "/opt", "ro")),
    Case(
        "no space for an image",
        "primary: disks[].path: the disk is full: 1 MiB are free for /srv/small, 3 MiB are needed",
        "put it on a larger disk",
        disk(path="/srv/small/a.img", size_mib=..., source="{image}"),
        **tmpfs("primary", "/srv/small", "size=1M"),
    ),
]
TITLES = [case.title for case in CASES]
