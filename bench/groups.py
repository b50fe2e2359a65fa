# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems that `make bench-services` compares: how each is started on the benchmark's hosts, and the figures that it reports.

``unprotected``: the same QEMU with the same guest, at the same place of the network, and no runtime.
``plover``: the runtime as it is deployed, but for the interval settings.
``remus-25ms``, ``remus-100ms``: the runtime in its checkpoint mode: the secondary's VM stands still, and at a fixed time
after the last checkpoint everything that was written is sent. Input passes the log there too, which costs it some bytes.
``colo``: the same QEMU in its own COLO mode, without the runtime (colo.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from plover.config.settings import Config
from plover.ctl.commands import ask
from plover.qemu.process import command_line, prepare

from lab.by_name import by_name
from lab.first_boot import mark_first_boot
from lab.paths import ROOT
from lab.pki import Authority
from lab.secret_file import secret_file

from .colo import Colo
from .guests import Guest
from .hosts import GUEST_IP, HOSTS, REPLICAS, TAP, sh
from .load import BenchError
from .processes import tail
from .variants import VARIANTS

TLS, PLAIN = {"link_security": "tls"}, {"link_security": "none"}  # Remus and COLO send in the clear
SYSTEMS: dict[str, dict[str, Any] | None] = {
    "unprotected": None,
    "plover": TLS,
    "plover-syncvm": {"output_release": "syncvm", **TLS},
    "plover-plain": PLAIN,
    "remus-25ms": {"syncvm_mode": "checkpoint", "syncvm_interval_ms_max": 25, **PLAIN},
    "remus-100ms": {"syncvm_mode": "checkpoint", "syncvm_interval_ms_max": 100, **PLAIN},
    "colo": None,
}
COMPARED = tuple(SYSTEMS)
# To see what a part of the runtime is worth: `make bench-ablation`.
TARGETS_MS = (10, 20, 50, 100, 200)
SYNCVM = TLS | {"output_release": "syncvm"}
SYSTEMS |= {name: SYNCVM | ({"syncvm_interval_ms_max": 25} if name.startswith("interval") else {}) for name in VARIANTS}
SYSTEMS |= {f"target-{ms}ms": SYNCVM | {"latency_ms_target": ms} for ms in TARGETS_MS}
DAEMON_NICE = -15  # as in the units of role 'runtime'
SINCE_S = 1.0  # between being protected and our learning of it
READY_S = 120.0  # of a disk, all is copied to the secondary
FAILOVER_S = 10.0
IFUP = f"#!/bin/sh\nip link set {TAP} master br0 up\n"


class Group:
    """One system with its guest, running from construction until :meth:`stop`. ``disks``: folder of the guest's disks."""

    def __init__(
        self,
        name: str,
        folder: Path,
        vcpus: int,
        guest: Guest,
        disks: Path,
        settings: dict[str, Any] | None = None,
        replica: str = "plover.replica",
        colo_repaired: bool = True,
    ) -> None:
        """``settings``: instead of the system's own where they differ. ``replica``: the module that is the daemon."""
        self.name, self.folder, self._settings = name, folder, SYSTEMS[name]
        self._replica = ["bench.variants", name] if name in VARIANTS else [replica]
        self._guest, self._disks = guest, disks
        self._colo: Colo | None = None
        self._colo_repaired = colo_repaired
        self._processes: list[subprocess.Popen] = []
        self._common = {
            "name": "bench",
            "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
            "preferred_leader": "primary",
            "members": {m: {"address": a, "kind": "witness" if m == "witness" else "replica"} for m, a in HOSTS.items()},
            "guest_mac": "52:54:00:70:6c:01",
            "guest_addresses": [GUEST_IP],
            "guest_vcpus": vcpus,
            "qemu_supervisor": "child",
            "qemu_user": "root",
            "secret_file": secret_file(folder),
            **guest.settings(),
            **(self._settings or {}),
            **(settings or {}),
        }
        if self._common.get("link_security") == "tls":
            authority = Authority(self._common["cluster_id"])
            for member in HOSTS:
                authority.give(folder / member / "tls", member)
        try:
            {"unprotected": self._start_unprotected, "colo": self._start_colo}.get(name, self._start_protected)()
            self._wait_for_guest()
            if self._colo:
                self._colo.begin()
        except BaseException:
            self.stop()
            raise

    def _member(self, member: str) -> dict[str, Any]:
        base = self.folder / member
        base.mkdir(parents=True, exist_ok=True)
        for script, text in (("ifup", IFUP), ("ifdown", "#!/bin/sh\n")):
            (base / script).write_text(text)
            (base / script).chmod(0o755)
        own = {} if member == "witness" else self._guest.place(self._disks, member)
        return {
            **self._common,
            **own,
            "member": member,
            "run_dir": str(base / "run"),
            "state_dir": str(base / "state"),
            "log_dir": str(base / "log"),
            "shm_dir": str(base),
            "tls_folder": str(base / "tls"),
            "network_tap": TAP,
            "network_ifup": str(base / "ifup"),
            "network_ifdown": str(base / "ifdown"),
        }

    def _spawn(self, host: str, words: list[str], **environment: str) -> subprocess.Popen:
        with open(self.folder / f"{host}.log", "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", host, *words],
                    env={**os.environ, **environment},
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            )
        return self._processes[-1]

    def _start_unprotected(self) -> None:
        config = Config(self._member("primary"))
        prepare(config, False)
        tap = f"tap,id=net0,ifname={TAP},script={config.network_ifup},downscript=no"
        self._spawn("primary", [tap if word.startswith("stream,") else word for word in by_name(config, command_line(config, False))])

    def _start_protected(self) -> None:
        for member in HOSTS:
            path, values = self.folder / f"{member}.json", self._member(member)
            path.write_text(json.dumps(values))
            mark_first_boot(values)
            module = ["plover.witness"] if member == "witness" else self._replica
            self._spawn(
                member,
                [sys.executable, "-m", *module, str(path)],
                PYTHONPATH=str(ROOT / "plugins/module_utils"),
                PLOVER_NATIVE_DIR=str(ROOT / "native/build"),
            )
        self._wait(lambda: self.ask("status").get("service") == "protected", "the VM is not protected")
        self._protected_at = time.monotonic()
        for daemon in self._processes:  # only now: their VMs, which inherit it, must not come before the clients
            for thread in Path(f"/proc/{daemon.pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):  # it ended just now
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), DAEMON_NICE)

    def _start_colo(self) -> None:
        configs = {member: Config(self._member(member)) for member in REPLICAS}
        for config in configs.values():
            prepare(config, False)
        self._colo = Colo(configs, self._spawn, self._colo_repaired)
        self._wait(self._colo.booted, "the guest does not boot")
        self._colo.enter()

    def _wait_for_guest(self) -> None:
        self._wait(self._guest.answers, "the guest does not answer")

    def _wait(self, condition, problem: str) -> None:
        end = time.monotonic() + READY_S
        while not condition():
            if time.monotonic() > end or any(process.poll() is not None for process in self._processes):
                log = tail(self.folder / "primary.log")
                raise BenchError(f"{self.name}: {problem}; the end of the primary's log:\n{log}")
            time.sleep(0.1)

    def ask(self, command: str) -> dict[str, Any]:
        """The leader's answer; its ``ok`` is false if there is none."""
        return ask(self.folder / "primary/run/bench/ctl.sock", command)

    def syncvms(self) -> list[dict[str, Any]]:
        """Figures of the last syncvms, oldest first; empty for a system without syncvms."""
        if self._colo:
            return self._colo.checkpoints()
        return self.ask("syncvms").get("syncvms", []) if self._settings is not None else []

    def check(self) -> None:
        """Raises BenchError unless the VM is still protected and both memories and disks are equal."""
        if self._colo:
            return self._check_colo(self._colo)
        if self._settings is None:
            return
        status = self.ask("status")
        if status.get("service") != "protected" or status.get("role") != "leader":
            raise BenchError(
                f"{self.name}: not protected after its load: {status.get('sentence', 'no answer')}; the end of "
                f"the primary's log:\n{tail(self.folder / 'primary.log', 40)}"
            )
        if status["since"] < time.monotonic() - self._protected_at - SINCE_S:
            raise BenchError(
                f"{self.name}: protection was lost for a time during its load; the end of the primary's log:\n"
                f"{tail(self.folder / 'primary.log', 40)}"
            )
        report = self.ask("audit-disks" if self._guest.disk else "audit")
        if not report.get("ok") or any(report.get(key) for key in ("mismatching", "untracked", "disk_blocks_mismatching")):
            raise BenchError(f"{self.name}: the audit after its load found {report}")

    def _check_colo(self, colo: Colo) -> None:
        """Under COLO the memories are not equal, so the secondary must show that it can serve. That works only once."""
        colo.check()
        colo.compares(lambda: redis("TIME"))
        keys = redis("DBSIZE")
        colo.fail_over(lambda: (sh(f"ip -n secondary link set {TAP} master br0"), sh(f"ip -n secondary link set {TAP} up")))
        end = time.monotonic() + FAILOVER_S
        while (now := redis("DBSIZE")) != keys or not now:
            if time.monotonic() > end:
                raise BenchError(f"{self.name}: after the failover DBSIZE is {now or 'not answered'}, and was {keys}")

    def stop(self) -> None:
        pids = [
            pid
            for host in HOSTS
            for pid in subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True, text=True).stdout.split()
        ]
        for pid in pids:
            try:
                os.kill(int(pid), 9)
            except ProcessLookupError:
                continue  # it ended just now
        for process in self._processes:
            process.wait()
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):  # QEMUs whose daemon was killed first are ours now
                pass
        except ChildProcessError:
            pass


def redis(command: str) -> str:
    """The first line of the guest's answer; empty if there is none."""
    try:
        with socket.create_connection((GUEST_IP, 6379), 2) as sock:
            sock.sendall(command.encode() + b"\r\n")
            return sock.recv(64).decode().strip()
    except OSError:
        return ""
