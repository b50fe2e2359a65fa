# SPDX-License-Identifier: GPL-3.0-or-later
"""The AppArmor profile of one VM's QEMU. plover-replica@NAME makes and loads it as it starts; the launcher enters it.

It is made on the host, by the version that starts QEMU, so it fits both this version and the VM's settings. A profile for each
VM: one VM's QEMU does not reach the files of another.

Images, the console, the kernel and most sockets need no rule. The launcher, which is not confined, opens them, and the kernel lets
a confined process use what it was given open. So the profile names only what QEMU opens by itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import QemuError
from . import own_folder

if TYPE_CHECKING:
    from ..config.settings import Config

ENABLED = Path("/sys/module/apparmor/parameters/enabled")
KERNEL = Path("/sys/kernel/security/apparmor")
FOLDER = Path("/etc/apparmor.d")
PARSER_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PARSER_TIMEOUT_S = 60.0
PREFIX = "plover-qemu-"  # the modules know it as well (_ansible/member.py)
PROFILE_BYTES_MAX = 1 << 16
LABEL_BYTES_MAX = 4096
MAGIC = frozenset('[]{}*?^"\\@,\n')  # of AppArmor, in a path
TEXT = """\
# Made by plover-replica@{name} from the VM's settings. Do not edit: rules of your own go to local/{profile}.
abi <abi/3.0>,

profile {profile} {{
  include if exists <local/{profile}>

  # QEMU with its modules and libraries.
  "{binary}" mr,
  /{{,usr/}}lib{{,32,64,x32}}/** mr,
  "{native}/*.so" mr,
  /run/qemu/** mr,
  /etc/ld.so.{{cache,preload}} r,
  /etc/{{gnutls,gcrypt,ssl}}/** r,
  /usr/share/{{qemu,seabios}}/** r,
  /dev/{{null,zero,full,random,urandom}} rw,

  # What QEMU asks of the host.
  /proc/{{meminfo,cpuinfo,filesystems}} r,
  owner /proc/*/{{stat,status}} r,
  # A library looks for SELinux there. What the host has mounted is none of QEMU's business, and a log line for it is noise.
  deny /proc/*/mounts r,
  /proc/sys/{{crypto/fips_enabled,vm/overcommit_memory,kernel/cap_last_cap}} r,
  /sys/devices/system/{{cpu,node}}/{{,**}} r,
  /sys/kernel/mm/transparent_hugepage/* r,
  /sys/module/vhost/parameters/max_mem_regions r,
  /dev/kvm rw,

  # The VM's own.
  "{ram}" rw,
  "{overlays}/*" rwk,
  "{run}/*.sock" rw,
{boot}
  # Our sockets.
  network unix stream,

  # The daemon and systemd end it; the daemon reads its memory map and fetches its userfaultfd. Its threads wake one another.
  signal (receive) peer=unconfined,
  signal (send, receive) peer={profile},
  ptrace (readby, tracedby) peer=unconfined,
}}
"""


def profile_name(vm: str) -> str:
    return f"{PREFIX}{vm}"


def profile(config: Config) -> str:
    """The profile's text. Raises QemuError if a path of the settings cannot be in it."""
    native = os.environ.get("PLOVER_NATIVE_DIR", "/opt/plover/current/native")
    boot = [path for path in (config.guest_kernel, config.guest_initrd) if path]
    return TEXT.format(
        name=config.name,
        profile=profile_name(config.name),
        binary=_real("qemu_binary", config.qemu_binary),
        native=_real("PLOVER_NATIVE_DIR", native),
        ram=_real("shm_dir", config.ram_path),
        overlays=_real("disk_overlay_dir", config.overlay_path),
        run=_real("run_dir", config.run_path),
        boot="".join(f'  "{_real("guest_kernel", path)}" r,\n' for path in boot),
    )


def _real(setting: str, path: str | Path) -> str:
    """AppArmor judges by the path behind all links."""
    out = os.path.realpath(path)
    if MAGIC & set(out):
        raise QemuError(f"{setting}: AppArmor cannot take {out} as one path; choose one without {' '.join(sorted(MAGIC - set(chr(10))))}")
    return out


def problem() -> str:
    """Why this host cannot confine QEMU; empty if it can."""
    try:
        if ENABLED.read_text(encoding="ascii", errors="replace").strip() != "Y":
            return "AppArmor is switched off; boot with apparmor=1"
    except OSError:
        return "its kernel has no AppArmor"
    return "" if parser() else "apparmor_parser is missing; install the package apparmor"


def parser() -> str | None:
    return shutil.which("apparmor_parser", path=PARSER_PATH)


def make(config: Config) -> None:
    """Write the VM's profile and load it, where the host has AppArmor and the settings do not say off. Raises QemuError."""
    path = FOLDER / profile_name(config.name)
    if config.qemu_apparmor == "off":
        remove(path)
        return
    if problem():
        return  # wanted() says so, if the settings insist
    text = profile(config).encode()
    try:
        if _is(path, text) and loaded(config.name):
            return
        own_folder.write(path, text)
        path.chmod(0o644)
    except OSError as error:
        raise QemuError(f"qemu_apparmor: {path} cannot be written: {error.strerror}") from error
    _load(path)


def _is(path: Path, text: bytes) -> bool:
    try:
        return own_folder.read(path, PROFILE_BYTES_MAX) == text
    except OSError:
        return False


def _load(path: Path) -> None:
    words = [parser() or "apparmor_parser", "--replace", "--skip-cache", str(path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PARSER_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise QemuError(f"qemu_apparmor: {path} cannot be loaded: {error}") from error
    if done.returncode:
        raise QemuError(f"qemu_apparmor: {path} cannot be loaded: {done.stderr.strip()[:400]}")


def remove(path: Path) -> None:
    """A QEMU that still runs under the profile is no longer confined then. Raises QemuError."""
    try:
        path.unlink(missing_ok=True)
        if loaded(path.name.removeprefix(PREFIX)):
            (KERNEL / ".remove").write_text(path.name, encoding="ascii")
    except OSError as error:
        raise QemuError(f"qemu_apparmor: {path} cannot be removed: {error.strerror}") from error


def loaded(vm: str) -> bool:
    """Whether the kernel enforces the VM's profile, for a process that enters it."""
    try:
        with open(KERNEL / "profiles", encoding="utf-8", errors="replace") as file:
            return f"{profile_name(vm)} (enforce)" in map(str.strip, file)
    except OSError:
        return False


def wanted(config: Config) -> str:
    """The profile that the launcher shall enter; empty: none. Raises QemuError if the settings insist on one."""
    if config.qemu_apparmor == "off":
        return ""
    if loaded(config.name):
        return profile_name(config.name)
    if config.qemu_apparmor == "on":
        why = problem() or f"its profile is not loaded; see 'journalctl -u plover-replica@{config.name}', and restart that unit"
        raise QemuError(f"qemu_apparmor: is on, but this host cannot confine QEMU: {why}; or set it to auto")
    return ""


def enter(name: str) -> None:
    """The next program of this thread is confined. Only while still root: the file is root's afterwards. Raises OSError."""
    with open("/proc/thread-self/attr/apparmor/exec", "w", encoding="ascii") as file:
        file.write(f"exec {name}")


def of_process(pid: int) -> str:
    """What confines a running QEMU, e.g. ``plover-qemu-demo (enforce)``; empty if nothing does."""
    try:
        with open(f"/proc/{pid}/attr/apparmor/current", encoding="utf-8", errors="replace") as file:
            label = file.read(LABEL_BYTES_MAX).strip("\n\0 ")
    except OSError:
        return ""
    return "" if label == "unconfined" else label
