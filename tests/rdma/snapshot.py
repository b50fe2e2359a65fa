# SPDX-License-Identifier: GPL-3.0-or-later
"""A booted VM in a file: QEMU in QEMU without KVM boots in minutes but loads such a file in seconds.

The VM is booted on the machine itself, with the runtime's own command line, and saved. In the guest, a script in QEMU's
place starts QEMU from this file when the runtime boots the VM. Nothing else differs.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from plover.config.settings import Config
from plover.qemu.process import command_line

from lab.by_name import by_name
from lab.guest_image import run as sh
from lab.paths import CACHE

BOOT_S = 60
CALM_S = 4.0  # after the guest's last word its Redis starts
LAUNCHER = """#!/bin/busybox sh
case "$*" in
  *" -incoming "*) exec /usr/bin/qemu-system-x86_64 "$@" ;;
  *) exec /usr/bin/qemu-system-x86_64 "$@" -incoming fd:9 9</shared/snapshot ;;
esac
"""


def settings_of(values: dict, image, folder: Path) -> Config:
    return Config(
        {
            **values,
            "member": "a",
            "preferred_leader": "a",
            "members": {n: {"address": f"10.0.0.{i}", "kind": "witness" if n == "c" else "replica"} for i, n in enumerate("abc")},
            "guest_kernel": str(image.kernel),
            "guest_initrd": str(image.initrd),
            "qemu_binary": "/usr/bin/qemu-system-x86_64",
            "run_dir": str(folder / "run"),
            "shm_dir": str(folder / "shm"),
            "log_dir": str(folder / "log"),
        }
    )


class Monitor:
    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(path))
        self._file = self._sock.makefile("rw")
        self._file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> dict:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while "event" in (reply := json.loads(self._file.readline())):
            pass
        return reply["return"]


def _until(what: str, condition, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"snapshot: waited {limit_s} s in vain for {what}")
        time.sleep(0.1)


def _boot_and_save(config: Config, target: Path) -> None:
    config.run_path.mkdir(parents=True)
    config.log_path.mkdir(parents=True)
    config.ram_path.parent.mkdir(parents=True)
    process = subprocess.Popen(by_name(config, command_line(config, incoming=False)), stdin=subprocess.DEVNULL)
    try:
        _until("QEMU", (config.run_path / "net.sock").exists, 10)
        net = socket.socket(socket.AF_UNIX)
        net.connect(str(config.run_path / "net.sock"))
        console = config.log_path / "console.log"
        _until("the guest", lambda: console.exists() and "plover guest ready" in console.read_text(errors="replace"), BOOT_S)
        time.sleep(CALM_S)
        monitor = Monitor(config.run_path / "qmp.sock")
        monitor.execute("stop")
        monitor.execute("migrate", uri=f"exec:cat >{target}.new")
        _until("the snapshot", lambda: monitor.execute("query-migrate").get("status") in ("completed", "failed"), 60)
        if monitor.execute("query-migrate")["status"] != "completed":
            raise RuntimeError("snapshot: QEMU could not save it")
    finally:
        process.kill()
        process.wait()
    Path(f"{target}.new").rename(target)


def snapshot(values: dict, image) -> Path:
    """Of the VM of these settings; from the cache, if it was made by this QEMU from this image."""
    key = json.dumps(
        [str(image.initrd), sh("qemu-system-x86_64", "--version"), {k: v for k, v in values.items() if k.startswith("guest_")}],
        sort_keys=True,
    )
    target = CACHE / f"rdma-vm-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not target.exists():
        with tempfile.TemporaryDirectory(prefix="plover-vm-", dir="/dev/shm") as folder:
            _boot_and_save(settings_of(values, image, Path(folder)), target)
    return target
