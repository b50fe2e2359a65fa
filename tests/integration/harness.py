# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real QEMUs, three real daemons, one network namespace of the test's own: a group without the lab's hosts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from plover.ctl import client
from plover.errors import ControlError

from lab.first_boot import mark_first_boot
from lab.guest_image import CMDLINE, build
from lab.netns import socket_in
from lab.paths import SUFFIX
from lab.pki import Authority
from lab.secret_file import secret_file

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "plugins" / "module_utils"
NETNS = f"plover-test{SUFFIX}"
# lab/engines.py; lab/kvm/inside.py, where all is so many times slower.
GIVEN = {"qemu_binary": "PLOVER_TEST_QEMU", "guest_accel": "PLOVER_TEST_ACCEL"}
ENGINE = {setting: os.environ[name] for setting, name in GIVEN.items() if os.environ.get(name)}
SLOWER = int(os.environ.get("PLOVER_TEST_SLOWER", "1"))
SHARE = os.environ.get("PLOVER_TEST_SHARE", "1/1")  # of repetitions: "2/3" is the second of three runs that have all of them together
AUDITS_MAX = 4
LOOK_S = 0.05  # between two looks at a member's status
PATIENT = ["patient_replica"] if SLOWER > 1 else []  # of the replicas
# Of the daemons, as in their units: they come before the VMs. Where one slow CPU has them all, no QEMU would even start.
NICE = "-15" if SLOWER == 1 else "0"
GUEST_IP, CLIENT_IP = "192.168.79.50", "192.168.79.1"
ADDRESSES = {"primary": "127.0.1.1", "secondary": "127.0.1.2", "witness": "127.0.1.3"}
REPLICAS = ("primary", "secondary")
SCRIPT = """#!/bin/sh
{0}
"""


def limit(seconds: float) -> float:
    """How long a test waits at most for what takes so long on the machines that the figure was made for."""
    return seconds * SLOWER


def share(repetitions: list[str]) -> list[str]:
    """Those of this run."""
    number, runs = map(int, SHARE.split("/"))
    return repetitions[number - 1 :: runs]


def sh(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def in_netns(*command: str) -> list[str]:
    return ["ip", "netns", "exec", NETNS, *command]


def make_netns() -> None:
    subprocess.run(["ip", "netns", "del", NETNS], capture_output=True, check=False)
    sh("ip", "netns", "add", NETNS)
    for words in (
        "link set lo up",
        "link add br0 address 02:70:6c:00:00:01 type bridge",
        f"addr add {CLIENT_IP}/24 dev br0",
        "link set br0 up",
    ):
        sh("ip", "-n", NETNS, *words.split())


def remove_netns() -> None:
    subprocess.run(["ip", "netns", "del", NETNS], capture_output=True, check=False)


class Group:
    """``folder``: where sockets, state and logs go. Further arguments are settings. Links are by TLS unless ``link_security`` says none."""

    python_path = f"{RUNTIME}:{Path(__file__).parent}"  # of the daemons

    def __init__(self, folder: Path, own: dict[str, dict] | None = None, **more) -> None:
        self.folder, self.more = folder, more
        self.own = own or {}  # settings that differ between the members
        self.daemons: dict[str, subprocess.Popen] = {}
        image = build()
        self.common = {
            "name": "demo",
            "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
            "preferred_leader": "primary",
            "members": {m: {"address": a, "kind": "witness" if m == "witness" else "replica"} for m, a in ADDRESSES.items()},
            "guest_kernel": str(image.kernel),
            "guest_initrd": str(image.initrd),
            "guest_mac": "52:54:00:70:6c:01",
            "guest_cmdline": CMDLINE.format(ip=GUEST_IP, gw=CLIENT_IP),
            "guest_addresses": [GUEST_IP],
            # A busy machine is not to look like a dead host here; the lab's demo and chaos have the default.
            "qemu_supervisor": "child",
            "qemu_user": "root",
            "secret_file": secret_file(folder),
            "failover_budget_ms": min(6000 * SLOWER, 60_000),
            "link_security": "tls",
            **ENGINE,
            **more,
        }
        if self.common["link_security"] == "tls":
            self.authority = Authority(self.common["cluster_id"])
            for member in ADDRESSES:
                self.authority.give(self.tls_folder(member), member)
        self.ifup, self.ifdown = (self._hosts_script(name) for name in ("qemu-ifup", "qemu-ifdown"))
        for member in ADDRESSES:
            mark_first_boot(json.loads(self.write_settings(member).read_text()))

    def _script(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(SCRIPT.format(text))
        path.chmod(0o755)
        return str(path)

    def _hosts_script(self, name: str) -> str:
        """As role qemu installs it."""
        path = self.folder / name
        path.write_bytes((ROOT / "roles" / "qemu" / "files" / name).read_bytes())
        path.chmod(0o755)
        return str(path)

    def write_settings(self, member: str, **more) -> Path:
        base = self.folder / member
        base.mkdir(parents=True, exist_ok=True)
        own = {
            "member": member,
            "run_dir": str(base / "run"),
            "state_dir": str(base / "state"),
            "log_dir": str(base / "log"),
            "shm_dir": self.memory_folder(member),
            "network_tap": f"pt-{member}"[:15],
            "network_ifup": self.ifup,
            "network_ifdown": self.ifdown,
            "tls_folder": str(self.tls_folder(member)),
        }
        path = base / "settings.json"
        path.write_text(json.dumps({**self.common, **own, **self.own.get(member, {}), **more}))
        return path

    def start(self, *members: str, replica: str = "plover.replica") -> None:
        for member in members or ADDRESSES:
            module = ["plover.witness"] if member == "witness" else [*PATIENT, replica]
            env = {**os.environ, "PYTHONPATH": self.python_path, "PLOVER_NATIVE_DIR": str(ROOT / "native" / "build")}
            with open(self.folder / f"{member}.log", "ab") as log:
                self.daemons[member] = subprocess.Popen(
                    in_netns("nice", "-n", NICE, sys.executable, "-m", *module, str(self.folder / member / "settings.json")),
                    env=env,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )

    def tls_folder(self, member: str) -> Path:
        return self.folder / member / "tls"

    def run_folder(self, member: str) -> Path:
        return self.folder / member / "run" / "demo"

    def memory_folder(self, member: str) -> str:
        """On its QEMU's command line, too."""
        return self.own.get(member, {}).get("shm_dir") or f"/dev/shm/plover-test-{os.getpid()}/{member}"

    def log_folder(self, member: str) -> Path:
        return self.folder / member / "log" / "demo"

    def log(self, member: str) -> str:
        return (self.folder / f"{member}.log").read_text()

    def ctl(self, member: str, command: str, timeout_s: float = 40.0) -> dict:
        return client.ask(self.run_folder(member) / "ctl.sock", {"cmd": command}, limit(timeout_s))

    def status(self, member: str) -> dict:
        try:
            return self.ctl(member, "status", 5.0)
        except ControlError:
            return {}

    def wait(self, member: str, seconds: float = 60.0, **wanted) -> dict:
        """Until the status of ``member`` has these values."""
        end = time.monotonic() + limit(seconds)
        while time.monotonic() < end:
            status = self.status(member)
            if status and all(status.get(k) == v for k, v in wanted.items()):
                return status
            time.sleep(limit(LOOK_S))
        raise AssertionError(f"{member} did not reach {wanted} in {limit(seconds)} s: {self.story()}")

    def settled(self, seconds: float = 90.0, after_view: int = 0) -> str:
        """The member that leads, once the VM is protected in a later view than that one. On a busy machine it need not be
        the one that led before."""
        end = time.monotonic() + limit(seconds)
        while time.monotonic() < end:
            for member in ADDRESSES:
                status = self.status(member)
                if status and (status["role"], status["service"]) == ("leader", "protected") and status["view"] > after_view:
                    return member
            time.sleep(limit(LOOK_S))
        raise AssertionError(f"nobody leads a protected VM: {self.story()}")

    def audit(self, disks: bool = False) -> dict:
        """A whole audit of the protected VM, by the member that leads. An audit that was broken off is asked for again: on a busy
        machine the leader may be deposed, and a VM that differs may crash."""
        for _time in range(AUDITS_MAX):
            report = self.ctl(self.settled(), "audit-disks" if disks else "audit", 90.0)
            if report["ok"]:
                return report
        raise AssertionError(f"no audit comes to its end: {report}: {self.story()}")

    def story(self) -> str:
        """What each member says of itself now, and the end of its log."""
        return "\n".join(f"--- {m} says {self.status(m)}\n{self.log(m)[-4000:]}" for m in ADDRESSES if (self.folder / f"{m}.log").exists())

    def wait_for_log(self, member: str, text: str, times: int = 1, seconds: float = 30.0) -> None:
        """Wait until the member's log has ``text`` ``times`` times."""
        end = time.monotonic() + limit(seconds)
        while self.log(member).count(text) < times:
            if time.monotonic() > end:
                raise AssertionError(f"{member} did not log {text!r} {times} times:\n{self.log(member)[-3000:]}")
            time.sleep(limit(LOOK_S))

    def qemu_pid(self, member: str) -> int:
        """The member's running QEMU; raises OSError if there is none. (Asking its QMP socket would fill its backlog.)"""
        for process in Path("/proc").glob("[0-9]*"):  # it may have a network of its own
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended just now
            if words[0].endswith(b"/qemu-system-x86_64") and any(self.memory_folder(member).encode() in word for word in words):
                return int(process.name)
        raise ProcessLookupError(f"{member} has no QEMU")

    def kill_qemu(self, member: str) -> None:
        os.kill(self.qemu_pid(member), signal.SIGKILL)

    def power_off(self, member: str) -> None:
        """The member and its QEMU are gone at once."""
        daemon = self.daemons.pop(member)
        os.kill(daemon.pid, signal.SIGSTOP)  # it must not see its QEMU die
        if member != "witness":
            try:
                self.kill_qemu(member)
            except OSError:
                pass  # it had none
        daemon.kill()
        daemon.wait()
        (self.run_folder(member) / "holder.json").unlink(missing_ok=True)  # /run does not survive a power loss

    def stop(self) -> None:
        for member in list(self.daemons):
            self.power_off(member)


class Redis:
    """A client in the test's namespace: one connection, plain RESP."""

    def __init__(self, timeout_s: float = 20.0, address: str = GUEST_IP) -> None:
        self.sock = socket_in_netns()
        self.sock.settimeout(limit(timeout_s))
        self.sock.connect((address, 6379))
        self.file = self.sock.makefile("rb")

    def ask(self, *words: str) -> bytes:
        self.sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        line = self.file.readline()
        if line.startswith(b"$") and line != b"$-1\r\n":
            return self.file.read(int(line[1:]) + 2)[:-2]
        return line.strip()

    def close(self) -> None:
        self.sock.close()


def socket_in_netns() -> socket.socket:
    """A TCP socket that belongs to the test's namespace."""
    return socket_in(NETNS)


def connect(seconds: float = 40.0, address: str = GUEST_IP) -> Redis:
    """A Redis connection, once the guest is up."""
    end = time.monotonic() + limit(seconds)
    while True:
        try:
            client = Redis(3.0, address)
            if client.ask("PING") == b"+PONG":
                client.sock.settimeout(limit(20.0))
                return client
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)
