# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM and its secondary, each QEMU under its AppArmor profile, on a kernel that has AppArmor: what they do still works, and what
they shall not do is denied. Prints what it saw, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from plover.config.settings import Config
from plover.disks import images, sockets
from plover.errors import QemuError
from plover.host import apparmor, qemu_user
from plover.qemu import colo, qmp, saving
from plover.qemu import vm as vm_module
from plover.qemu.process import PRELOAD
from plover.qemu.vm import Vm

DISK_BYTES = 8 << 20
FIRST_UID = 600
PATIENT_S = 150.0  # QEMU in QEMU without KVM, on a busy machine
PTRACE_ATTACH = 16
LIBC = ctypes.CDLL(None, use_errno=True)
SETTINGS = json.loads(Path("/shared/settings.json").read_text())


def prepare_host() -> None:
    """A folder /etc that can be written, users, Debian's rules, the kernel's interface to AppArmor."""
    shutil.copytree("/etc", "/tmp/etc", symlinks=True)
    run("mount", "--bind", "/tmp/etc", "/etc")
    users = enumerate(("root", "", "plover-demo", "plover-other"))
    ids = {name: number and FIRST_UID + number for number, name in users if name}
    Path("/etc/passwd").write_text("".join(f"{name}:x:{n}:{n}::/nonexistent:/bin/false\n" for name, n in ids.items()))
    Path("/etc/group").write_text("".join(f"{name}:x:{n}:\n" for name, n in ids.items()))
    Path("/etc/shadow").write_text("root:secret\n")
    Path("/etc/shadow").chmod(0o600)
    shutil.copytree("/shared/apparmor.d", "/etc/apparmor.d", dirs_exist_ok=True)
    run("mount", "-t", "securityfs", "securityfs", "/sys/kernel/security")


def run(*words: str) -> str:
    return subprocess.run(["busybox", *words], check=True, capture_output=True, text=True).stdout


def config_of(name: str) -> Config:
    image = Path(f"/tmp/{name}.img")
    image.touch(mode=0o600)
    os.truncate(image, DISK_BYTES)
    return Config({**SETTINGS, "name": name, "qemu_user": f"plover-{name}", "disks": [{"path": str(image)}]})


def denials() -> list[str]:
    return [line for line in run("dmesg").splitlines() if 'apparmor="DENIED"' in line]


async def work(demo: Config, other: Config) -> dict:
    """One VM is booted, saved and exported; from its state the other one becomes a secondary, then a VM of its own."""
    seen: dict = {}
    leader, secondary = (Vm(config, lambda data: None, tell, tell) for config in (demo, other))
    try:
        await leader.start(incoming=False)
        tell("the leader's QEMU runs")
        seen["labels"] = [apparmor.of_process(leader.pid)]
        seen["preloaded"] = PRELOAD in Path(f"/proc/{leader.pid}/maps").read_text()
        await leader.stop()
        await leader.cont()
        await leader.stop()
        stream = await leader.capture_stream()
        tell("its stream is captured")
        await secondary.start(incoming=True)
        tell("the secondary's QEMU runs")
        seen["labels"].append(apparmor.of_process(secondary.pid))
        await secondary.qmp.give_listener(sockets.LISTENER, sockets.export_socket(other))
        await secondary.block.export(sockets.OF_IMAGES)
        seen["export"] = await greeting(sockets.export_socket(other))
        seen["dials"] = await dials(leader, sockets.stream_socket(demo))
        tell("exported")
        await secondary.feed_stream(stream)
        await secondary.colo_stop()
        state = await leader.save_device()
        seen["state_bytes"] = len(state)
        tell("the devices are saved")
        await secondary.colo_load(state)
        await secondary.promote()
        await leader.cont()
        seen["promoted"] = (await secondary.qmp.ask("query-status", running=bool))["running"]
        seen["denied_at_work"] = denials()
    finally:
        for vm in (leader, secondary):
            await vm.kill()
    return seen


def tell(text: str) -> None:
    """How far it got, for whoever reads why it failed."""
    print(f"{time.monotonic():.0f} s: {text}", file=sys.stderr, flush=True)


async def greeting(path: Path) -> str:
    """The first bytes of an NBD server."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        return (await asyncio.wait_for(reader.readexactly(8), 20)).decode()
    finally:
        writer.close()


async def dials(vm: Vm, path: Path) -> bool:
    """Does the leader's QEMU come to our socket for the secondary's images? What it would get there is not the point."""
    came = asyncio.Event()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        writer.close()

    server = await asyncio.start_unix_server(hang_up, str(path))
    qemu_user.let_in(path, vm.pid)
    with contextlib.suppress(QemuError):
        await vm.qmp.execute("blockdev-add", driver="nbd", server={"type": "unix", "path": str(path)}, **{"node-name": "n"})
    server.close()
    return came.is_set()


# ---- what the profile is there for -----------------------------------------------------------------------------------------
def probes(demo: Config, other: Config) -> dict:
    """Each is something that root can do, and QEMU must not."""

    def call(name: str, *arguments: object) -> None:
        ctypes.set_errno(0)
        if getattr(LIBC, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)

    return {
        "own memory": lambda: open(demo.ram_path, "r+b"),
        "read /etc/shadow": lambda: open("/etc/shadow"),
        "read another VM's memory": lambda: open(other.ram_path, "rb"),
        "write another VM's overlay": lambda: open(other.overlay_path / "active0.qcow2", "r+b"),
        "read another VM's image": lambda: open("/tmp/other.img", "rb"),
        "write into the daemon's folder": lambda: (demo.run_path / "new").write_text("x"),
        "open a TCP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "open a UDP socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "use a capability": lambda: os.chown("/tmp/mine", 1, 1),
        "mount": lambda: call("mount", b"none", b"/tmp/mount", b"tmpfs", 0, None),
        "trace a process": lambda: call("ptrace", PTRACE_ATTACH, os.getppid(), None, None),
        "kill a process": lambda: os.kill(1, 0),
        "leave the profile": lambda: Path("/proc/self/attr/apparmor/current").write_text("changeprofile unconfined"),
        "run a program": lambda: os.execv("/bin/busybox", ["busybox", "true"]),
    }


def tried(profile: str, demo: Config, other: Config) -> dict[str, str]:
    """What each probe ends with in a process of its own: "done", or the error's name."""
    harmful = () if profile else ("mount", "trace a process")  # to this program, if nothing keeps it from it
    return {name: _tried(profile, probe) for name, probe in probes(demo, other).items() if name not in harmful}


def _tried(profile: str, probe) -> str:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.set_inheritable(write, False)
        try:
            if profile:
                Path("/proc/self/attr/apparmor/current").write_text(f"changeprofile {profile}")
            probe()
        except OSError as error:
            os.write(write, os.strerror(error.errno).encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 100).decode()
    os.close(read)
    os.waitpid(child, 0)
    return said or "done"


def main() -> None:
    prepare_host()
    qemu_user.QemuUser.may = lambda *_arguments: True  # this guest has no test(1) to ask
    vm_module.START_TIMEOUT_S = vm_module.LAST_OUTPUT_S = colo.TIMEOUT_S = qmp.COMMAND_TIMEOUT_S = PATIENT_S
    vm_module.KILL_TIMEOUT_S = saving.CAPTURE_TIMEOUT_S = images.TOOL_TIMEOUT_S = qemu_user.TOOL_TIMEOUT_S = PATIENT_S
    Path("/tmp/mount").mkdir()
    Path("/tmp/mine").touch()
    demo, other = config_of("demo"), config_of("other")
    seen: dict = {"problem": apparmor.problem(), "before": apparmor.wanted(Config({**demo.values, "qemu_apparmor": "auto"}))}
    try:
        apparmor.wanted(demo)
    except QemuError as error:
        seen["refused"] = str(error)
    tell("prepared")
    for config in (demo, other):
        apparmor.make(config)
    tell("profiles made")
    seen["loaded"] = [apparmor.wanted(config) for config in (demo, other)]
    seen |= asyncio.run(work(demo, other))
    for config in (demo, other):
        for path in (config.ram_path, config.overlay_path / "active0.qcow2"):
            path.touch()
            os.chown(path, 0, 0)  # so that only the profile can keep root from it
    seen["free"] = tried("", demo, other)
    seen["confined"] = tried("plover-qemu-demo", demo, other)
    seen["denied"] = len(denials())
    apparmor.make(Config({**demo.values, "qemu_apparmor": "off"}))
    seen["left"] = [apparmor.loaded("demo"), (apparmor.FOLDER / "plover-qemu-demo").exists(), apparmor.loaded("other")]
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
