# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's command line and its supervisor: a systemd unit of its own or, in tests, the daemon as its parent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path

from ..config import topology
from ..config.settings import Config
from ..dataplane import programs
from ..disks import images as disks
from ..errors import QemuError
from ..host import own_folder, qemu_user
from . import boot, kernel_image, launch_file, panic_device
from .launch_file import (
    CONSOLE,
    CONSOLE_SET,
    FLUSH,
    FLUSH_FILE,
    QMP,
    UFFD,
    UFFD_DEVICE_FD,
    UFFD_FILE,
    net_fd,
    net_sockets,
    qmp_socket,
)

log = logging.getLogger("plover")
START_TIMEOUT_S = 20.0
PRELOAD = "libplover_preload.so"
REMEDY = "role 'native' installs it; 'cache: writeback' does without"
# It opens nothing by itself, starts no program and becomes nobody else.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
LAUNCHER = "plover.qemu_launch"
OLD_FILES = ("colo.sock", "capture.sock", "device-state", CONSOLE, f"{CONSOLE}.1")  # an earlier version's, in run_path


def command_line(config: Config, incoming: bool) -> list[str]:
    """Arguments for the distribution's QEMU (docs/ARCHITECTURE.md, "Driving QEMU"). No -daemonize: the parent is the supervisor.

    Its descriptors are those of launch_file.py.
    """
    out = [
        config.qemu_binary,
        "-name",
        config.name,
        "-nodefaults",
        "-no-user-config",
        "-no-shutdown",  # a guest that powers itself off is not lost: core/power.py
        "-display",
        "none",
        "-vga",
        "none",
        "-machine",
        f"{config.guest_machine},accel={config.guest_accel},memory-backend=ram0,dump-guest-core=off",
        "-sandbox",
        SANDBOX,
        "-cpu",
        config.guest_cpu,
        "-smp",
        topology.smp(config.values),
        "-m",
        f"{config.guest_memory_mib}M",
        "-object",
        f"memory-backend-file,id=ram0,size={config.guest_memory_mib}M,mem-path={config.ram_path},share=on,dump=off",
        *_cards(config),
        "-chardev",
        f"socket,id=qmp,fd={QMP},server=on,wait=off",
        "-mon",
        "chardev=qmp,mode=control",
        *launch_file.sets(config),
        "-chardev",
        f"file,id=console,path=/dev/fdset/{CONSOLE_SET},append=on",
        "-serial",
        "chardev:console",
        *boot.loading(config),
    ]
    out += disks.arguments(config, incoming) + boot.drives(config) + panic_device.arguments(config)
    return out + (["-incoming", "defer"] if incoming else [])


def _cards(config: Config) -> list[str]:
    out = []
    for nic in config.nics:
        out += ["-netdev", f"stream,id=net{nic.number},server=on,addr.type=fd,addr.str={net_fd(nic.number)}"]
        out += ["-device", f"{nic.model},netdev=net{nic.number},mac={nic.mac},romfile=" + (f",host_mtu={nic.mtu}" if nic.mtu else "")]
    return out


def environment(config: Config) -> dict[str, str]:
    """What QEMU's environment needs: the preload library, where dirty tracking or a disk asks for it."""
    tracks = config.syncvm_dirty_tracking == "uffd-wp"
    out = {"LD_PRELOAD": str(_preload())} if tracks or forgets_flushes(config) else {}
    if forgets_flushes(config):
        out["PLOVER_FLUSH_FD"] = str(FLUSH)
    return {**out, "PLOVER_UFFD_FD": str(UFFD), "PLOVER_UFFD_DEVICE_FD": str(UFFD_DEVICE_FD)} if tracks else out


def _preload() -> Path:
    return Path(os.environ.get("PLOVER_NATIVE_DIR", "/opt/plover/current/native"), PRELOAD)


def forgets_flushes(config: Config) -> bool:
    """QEMU by itself lets a flush succeed after one that failed, of an image that it opens with O_DIRECT."""
    return any(disk.cache == "none" for disk in config.disk_list)


def flush_failed(config: Config) -> bool:
    """A flush of the last QEMU's failed, so far; it may have ended. (Of buffered images the daemon's own sync tells that.)"""
    try:
        return forgets_flushes(config) and (config.run_path / FLUSH_FILE).stat().st_size > 0
    except FileNotFoundError:
        return False


def check_flushes(config: Config, pid: int) -> None:
    """A flush that failed stays failed in this QEMU (native/src/preload/sticky_flush.c). Raises QemuError.

    The dynamic loader only warns of a library that it cannot load, and ignores the variable in a program with privileges of its own.
    """
    try:
        if not forgets_flushes(config) or PRELOAD in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace"):
            return
    except OSError as error:
        raise QemuError(f"cannot see whether QEMU has loaded {PRELOAD}: {error}") from error
    raise QemuError(f"QEMU has not loaded {_preload()}, which 'cache: none' needs; {REMEDY}")


def prepare(config: Config, incoming: bool) -> None:
    """Write folders and launch file afresh; nothing of an earlier QEMU may remain. Raises QemuError."""
    for key in ("guest_kernel", "guest_initrd", "guest_cdrom", "guest_seed", "qemu_binary"):
        path = getattr(config, key)
        if path and not os.access(path, os.R_OK):
            raise QemuError(f"{key}: {path} is missing or not readable on this host; the deploy play copies it")
    if forgets_flushes(config) and not os.access(_preload(), os.R_OK):
        raise QemuError(f"disks: {_preload()} is missing on this host, and 'cache: none' needs it; {REMEDY}")
    if config.guest_kernel:
        kernel_image.check(config.guest_kernel)
    user = qemu_user.find(config)
    if user is None and os.geteuid() == 0:
        log.warning("QEMU stays root: so the setting qemu_user says")
    make_folders(config)
    launch_file.make_ram_file(config, user)
    disks.prepare(config, incoming, user)
    for name in (*(Path(path).name for path in (qmp_socket(config), *net_sockets(config))), UFFD_FILE, FLUSH_FILE, *OLD_FILES):
        (config.run_path / name).unlink(missing_ok=True)
    env = environment(config)
    if user and (wrong := _out_of_reach(config, user, env)):
        raise QemuError(wrong)
    launch_file.write(config, command_line(config, incoming), env, user)


def make_folders(config: Config) -> None:
    """Those of root's own. Raises QemuError."""
    own_folder.claim(config.run_path, "run_dir", 0o711)  # QEMU may pass through, to a socket that is for it
    try:
        own_folder.make(config.log_path, "log_dir", 0o700)
    except QemuError as error:
        log.warning("the VM's console goes nowhere: %s", error)


def _out_of_reach(config: Config, user: qemu_user.QemuUser, env: dict[str, str]) -> str:
    """What ``user`` must be able to open by itself, and cannot; empty if there is nothing."""
    if not user.may(config.qemu_binary, "x"):
        return f"qemu_binary: user {user.name} cannot execute {config.qemu_binary}; correct its mode and that of its folders"
    if "LD_PRELOAD" in env and not user.may(env["LD_PRELOAD"], "r"):
        return f"user {user.name} cannot read {env['LD_PRELOAD']}; correct its mode and that of its folders"
    return ""


class SystemdSupervisor:
    """``plover-qemu@NAME.service``: a daemon restart leaves the guest alone."""

    def __init__(self, config: Config) -> None:
        self._unit = f"plover-qemu@{config.name}.service"

    async def start(self) -> None:
        await self._systemctl("start")

    async def stop(self) -> None:
        """QEMU is dead already or dies now; the unit is ready for its next start."""
        await self._systemctl("kill", "--signal=SIGKILL", check=False)
        await self._systemctl("stop", check=False)
        await self._systemctl("reset-failed", check=False)

    async def _systemctl(self, *words: str, check: bool = True) -> None:
        process = await asyncio.create_subprocess_exec(
            "systemctl", *words, self._unit, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        try:
            _out, err = await programs.ended(process, START_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise QemuError(f"systemctl {words[0]} {self._unit} took longer than {START_TIMEOUT_S} s") from None
        if check and process.returncode:
            raise QemuError(f"systemctl {words[0]} {self._unit}: {err.decode(errors='replace').strip()[:500]}")


class ChildSupervisor:
    """QEMU as a child of the daemon: for tests on one machine without systemd."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with open(self._config.run_path / "qemu.log", "ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *launcher(self._config.run_path / launch_file.LAUNCH), stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL
            )
        if os.getpriority(os.PRIO_PROCESS, 0) < 0:  # the daemon comes first, as in its unit, and QEMU's unit has no priority either
            with contextlib.suppress(ProcessLookupError):  # it ended at once
                os.setpriority(os.PRIO_PROCESS, self._process.pid, 0)

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._process:
            await self._process.wait()


def launcher(path: Path) -> list[str]:
    """The program that becomes the QEMU of a launch file, with this daemon's environment."""
    return [sys.executable, "-m", LAUNCHER, str(path)]


def supervisor(config: Config) -> SystemdSupervisor | ChildSupervisor:
    return SystemdSupervisor(config) if config.qemu_supervisor == "systemd" else ChildSupervisor(config)
