# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM (QEMU in a guest) protected with ``transport: rdma``, all of it: log, fill, syncvms; then its host is gone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import qemu.qmp

from lab.guest_image import CMDLINE
from lab.guest_image import build as vm_image
from lab.netns import socket_in
from lab.rdma.guests import CLIENT_IP, NETNS, Guests

from .conftest import ENV, NAMES
from .snapshot import LAUNCHER, snapshot

VM_IP = "192.168.78.50"
SETTINGS = {
    "name": "demo",
    "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "preferred_leader": "primary",
    "guest_kernel": "/shared/vmlinuz",
    "guest_initrd": "/shared/initrd.img",
    "guest_mac": "52:54:00:70:6c:01",
    "guest_cmdline": CMDLINE.format(ip=VM_IP, gw=CLIENT_IP),
    "guest_addresses": [VM_IP],
    "guest_spoof_check": "off",  # the guest that stands for a host has no nftables
    "guest_memory_mib": 128,
    "qemu_supervisor": "child",
    "qemu_user": "root",
    "secret_file": "/tmp/members.secret",
    "qemu_binary": "/shared/qemu",
    "run_dir": "/run/plover",
    "state_dir": "/tmp/state",
    "shm_dir": "/dev/shm/plover",
    "network_ifup": "/shared/ifup",
    "network_ifdown": "/shared/ifdown",
    "transport": "rdma",
    "rdma_timeout": 16,
    "rdma_retry": 4,
    # QEMU in QEMU without KVM: what takes a millisecond elsewhere takes fifty here.
    "failover_budget_ms": 40_000,
    "detection_ms": 4000,
    "heartbeat_ms": 200,
    "peer_timeout_ms": 30_000,
    "syncvm_timeout_ms": 60_000,
    "join_timeout_ms": 240_000,
    "latency_ms_target": 400,
}
MARK = """
import json, pathlib
from lab.first_boot import mark_first_boot
from lab.secret_file import secret_file
mark_first_boot(json.load(open("/shared/settings.json")))
secret_file(pathlib.Path("/tmp"))
"""


def redis(*commands: list[str], timeout_s: float = 20) -> list[str]:
    out = []
    with socket_in(NETNS) as sock:
        sock.settimeout(timeout_s)
        sock.connect((VM_IP, 6379))
        file = sock.makefile("rb")
        for words in commands:
            sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
            line = file.readline()
            if line[:1] == b"$" and line[1:2] != b"-":
                line = file.read(int(line[1:]) + 2)
            out.append(line.decode().strip())
    return out


def prepare(guests: Guests) -> None:
    image = vm_image()
    members = {n: {"address": guests[n].ip, "kind": "witness" if n == "witness" else "replica"} for n in NAMES}
    for name in NAMES:
        shared = guests[name].shared
        shutil.copytree(Path(qemu.qmp.__file__).parents[1], shared / "site" / "qemu", dirs_exist_ok=True)
        (shared / "settings.json").write_text(json.dumps({**SETTINGS, "member": name, "members": members}))
        for script, words in (("ifup", "master br0 up"), ("ifdown", "nomaster down")):
            (shared / script).write_text(f"#!/bin/busybox sh\nip link set $1 {words}\n")
            (shared / script).chmod(0o755)
        if name != "witness":
            shutil.copy(image.kernel, shared / "vmlinuz")
            shutil.copy(image.initrd, shared / "initrd.img")
            shutil.copy(snapshot(SETTINGS, image), shared / "snapshot")
            (shared / "qemu").write_text(LAUNCHER)
            (shared / "qemu").chmod(0o755)


def start(guests: Guests) -> None:
    env = {**ENV, "PYTHONPATH": ENV["PYTHONPATH"] + ":/shared/site"}
    for name in NAMES:
        module = "plover.witness" if name == "witness" else "plover.replica"
        guests[name].run("python3", "-c", MARK, **env)
        guests[name].spawn("python3", "-m", module, "/shared/settings.json", log="/shared/daemon.txt", **env)


def ctl(guests: Guests, name: str, **request: object) -> dict:
    return guests[name].say("/run/plover/demo/ctl.sock", request)


def wait(guests: Guests, what: str, condition, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.5)
    logs = [f"{n}: {(guests[n].shared / 'daemon.txt').read_text(errors='replace')[-3000:]}" for n in NAMES]
    raise AssertionError(f"waited {limit_s} s in vain for {what}:\n" + "\n".join(logs))


@pytest.fixture
def hosts(guests):
    """The guests; what runs in them afterwards goes with them."""
    yield guests
    for name in NAMES:
        guests[name].power_off()


def test_a_vm_is_protected_over_rdma_and_outlives_its_host(hosts):
    guests = hosts
    prepare(guests)
    start(guests)
    wait(guests, "the VM's Redis", lambda: redis(["PING"]) == ["+PONG"], 300)
    wait(guests, "protection", lambda: ctl(guests, "primary", cmd="status")["service"] == "protected", 300)
    status = ctl(guests, "primary", cmd="status")
    assert status["rdma"]["writes_to"] == ["secondary", "witness"] and status["transport"] == "rdma"
    assert status["rdma"]["guest_memory"] == "pinned", "pages are sent without a copy"
    assert status["fill_pages_mismatching"] == 0 and status["dirty_tracking"] == "soft-dirty"
    assert redis(*[["SET", f"k{n}", f"v{n}"] for n in range(10)]) == ["+OK"] * 10
    audit = ctl(guests, "primary", cmd="audit")
    assert audit["pages"] == 128 * 256 and audit["mismatching"] == audit["untracked"] == 0, audit
    guests["primary"].power_off()
    wait(guests, "the VM at the secondary", lambda: redis(["PING"], timeout_s=5) == ["+PONG"], 120)
    assert redis(*[["GET", f"k{n}"] for n in range(10)]) == [f"v{n}" for n in range(10)]
    after = ctl(guests, "secondary", cmd="status")
    assert after["role"] == "leader" and after["rdma"]["writes_to"] == ["witness"], after
