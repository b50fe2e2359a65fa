# SPDX-License-Identifier: GPL-3.0-or-later
"""Two or three RDMA guests in a network namespace of their own: on one bridge by eth0, where RDMA is, on another by
eth1, for the VMs that they protect.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from lab.guest_image import KERNEL
from lab.guest_image import run as sh
from lab.netns import socket_in
from lab.paths import ROOT, SUFFIX

from .image import AGENT, Image, build

NETNS = f"plover-rdma{SUFFIX}"
SUBNET = "192.168.77"
OUTSIDE_IP = f"{SUBNET}.1"
CLIENT_IP = "192.168.78.1"  # in the VMs' network
BOOT_S = 90
AGENT_PORT = 7400
CONNECT_S = 2.0
Cards = Iterable[tuple[str, str]]
Shares = Iterable[tuple[str, Path, bool]]


def in_netns(*command: str) -> list[str]:
    return ["ip", "netns", "exec", NETNS, *command]


def make_netns() -> None:
    remove_netns()
    sh("ip", "netns", "add", NETNS)
    for words in (
        "link set lo up",
        "link add br0 type bridge",
        f"addr add {OUTSIDE_IP}/24 dev br0",
        "link set br0 up",
        "link add br1 type bridge",
        f"addr add {CLIENT_IP}/24 dev br1",
        "link set br1 up",
    ):
        sh("ip", "-n", NETNS, *words.split())


def add_tap(name: str, bridge: str) -> None:
    sh(*in_netns("ip", "tuntap", "add", name, "mode", "tap"))
    sh(*in_netns("ip", "link", "set", name, "master", bridge, "up"))


def qemu(image: Image, append: str, console: Path, cpus: int, memory_mib: int, cards: Cards, shares: Shares) -> list[str]:
    """The command of a guest that boots the image's kernel. ``cards``: a TAP and further options of each card; ``shares``: tag, folder,
    and whether the guest may write there."""
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35", "-accel", "tcg", "-cpu", "qemu64"]
    words += ["-smp", str(cpus), "-m", str(memory_mib), "-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    words += ["-append", f"{KERNEL} {append}", "-serial", f"file:{console}"]
    for n, (tap, options) in enumerate(cards):
        words += ["-netdev", f"tap,id=n{n},ifname={tap},script=no,downscript=no"]
        words += ["-device", f"virtio-net-pci,netdev=n{n},romfile={options}"]
    for tag, path, may_write in shares:
        options = f"path={path.resolve()},security_model=none" + ("" if may_write else ",readonly=on")
        words += ["-fsdev", f"local,id={tag},{options}", "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return words


class Guest:
    """``folder``: of its own, for its console, and shared with it as /shared."""

    def __init__(self, folder: Path, name: str, number: int, image: Image, memory_mib: int = 512) -> None:
        self.folder, self.name, self.number, self.ip = folder, name, number, f"{SUBNET}.{10 + number}"
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True)
        shutil.copy(AGENT, self.shared)
        self.tap, self.vm_tap = f"rdma{number}", f"vm{number}"
        for tap, bridge in ((self.tap, "br0"), (self.vm_tap, "br1")):
            add_tap(tap, bridge)
        self._command = self._words(image, memory_mib)
        self.process: subprocess.Popen | None = None

    def _words(self, image: Image, memory_mib: int) -> list[str]:
        shares = (("root", image.root, False), ("plover", ROOT, False), ("shared", self.shared, True))
        cards = [(tap, f",mac=52:54:00:77:{kind:02x}:{self.number:02x}") for kind, tap in enumerate((self.tap, self.vm_tap))]
        append = f"plover.name={self.name} plover.ip={self.ip}"
        words = qemu(image, append, self.folder / "console.txt", 1, memory_mib, cards, shares)
        return [*words, "-no-reboot", "-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"]

    def start(self) -> None:
        """Starts the guest if it is not running."""
        if self.process is not None and self.process.poll() is None:
            return
        self.process = subprocess.Popen(
            in_netns(*self._command), stdin=subprocess.DEVNULL, stdout=(self.folder / "qemu.txt").open("ab"), stderr=subprocess.STDOUT
        )

    def wait_up(self) -> None:
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if self.run("rdma", "link", "show", timeout_s=5, check=False)["out"]:  # on a busy machine it may take longer
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise RuntimeError(f"{self.name} is not up; its console:\n{self.console()[-2000:]}")

    def console(self) -> str:
        path = self.folder / "console.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def ask(self, request: dict, timeout_s: float = 70) -> dict:
        try:
            with socket_in(NETNS) as sock:
                sock.settimeout(CONNECT_S)
                sock.connect((self.ip, AGENT_PORT))
                sock.settimeout(timeout_s)
                sock.sendall(json.dumps(request).encode() + b"\n")
                line = sock.makefile().readline()
        except OSError as error:
            raise OSError(f"{self.name} does not answer: {error}") from error
        if not line:
            raise OSError(f"{self.name} does not answer: it closed the connection")
        reply = json.loads(line)
        if "error" in reply:
            raise ValueError(f"{self.name}: {reply['error']}")
        return reply

    def run(self, *words: str, timeout_s: float = 60, check: bool = True, **env: str) -> dict:
        reply = self.ask({"run": list(words), "timeout": timeout_s, "env": env}, timeout_s + 10)
        if check and reply["rc"]:
            raise RuntimeError(f"{self.name}: {' '.join(words)} ended with {reply['rc']}:\n{reply['out']}{reply['err']}")
        return reply

    def spawn(self, *words: str, log: str, **env: str) -> int:
        return self.ask({"start": list(words), "log": log, "env": env})["pid"]

    def say(self, path: str, request: dict, timeout_s: float = 60) -> dict:
        """What the daemon behind this UNIX socket in the guest answers."""
        return self.ask({"say": request, "to": path, "timeout": timeout_s}, timeout_s + 10)["answer"]

    def qmp(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.folder / "qmp"))
            file = sock.makefile("rw")
            file.readline()
            for word in ("qmp_capabilities", command):
                file.write(json.dumps({"execute": word}) + "\n")
                file.flush()
                while "return" not in json.loads(file.readline()):
                    pass

    def link(self, state: str) -> None:
        sh(*in_netns("ip", "link", "set", self.tap, state))

    def power_off(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class Guests:
    def __init__(self, folder: Path, names: tuple[str, ...], memory_mib: int = 512) -> None:
        image = build()
        for modules in ("plugins/module_utils", "bench"):  # the guests cannot keep what they compile
            compileall.compile_dir(ROOT / modules, quiet=2)
        make_netns()
        self.guests = {name: Guest(folder / name, name, n, image, memory_mib) for n, name in enumerate(names)}

    def __getitem__(self, name: str) -> Guest:
        return self.guests[name]

    def start(self) -> Guests:
        for guest in self.guests.values():
            guest.start()
        for guest in self.guests.values():
            guest.wait_up()
        return self

    def stop(self) -> None:
        for guest in self.guests.values():
            guest.power_off()
        remove_netns()


def remove_netns() -> None:
    if os.path.exists(f"/run/netns/{NETNS}"):
        sh("ip", "netns", "del", NETNS)
