# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects read-only facts of a host for the prechecks, before anything is installed on it. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import platform
import pwd
import re
import socket
import sys
import time

from ...plover.host import kernel_tracking
from . import block_drivers, bridge_filter, colo_loop, kvm, network, packet_filter
from .network import read, tool

MEMORY, SHM, RDMA = "/proc/meminfo", "/dev/shm", "/sys/class/infiniband"
SETTINGS = "/etc/plover/*.json"
CERTIFICATES, CERTIFICATES_MAX, CERTIFICATE_CHARS_MAX = "/etc/plover/*/tls/cert.pem", 64, 1 << 14
APPARMOR = "/sys/module/apparmor/parameters/enabled"
# Without the caches that apt-cache would write.
APT_POLICY = ("apt-cache", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "policy")
UNSYNCHRONISED, TIMEX_BYTES = 5, 512
HELP = {"accelerators": ("-accel",), "machines": ("-machine",), "netdevs": ("-netdev",), "objects": ("-object",)}


def facts(paths=(), qemu_binary="/usr/bin/qemu-system-x86_64", users=()):
    return {
        "hostname": socket.gethostname(),
        "uid": os.geteuid(),
        "python": platform.python_version(),
        "interpreter": sys.executable,
        "machine": platform.machine(),
        "kernel": platform.release(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "uffd_wp_problem": kernel_tracking.uffd_wp(),
        "soft_dirty_problem": kernel_tracking.soft_dirty(),
        "kvm_problem": kvm.why_not(),
        "nft_problem": packet_filter.why_not(),
        "apparmor_problem": apparmor(),
        "users": [name for name in users if is_user(name)],
        "cpu": cpu(),
        "memory_mib": memory_mib(),
        "shm_mib": space(SHM)["size_mib"],
        "qemu": qemu(qemu_binary),
        "interfaces": network.interfaces(),
        "bridge_filters": bridge_filter.found(),
        "listening": network.listening(),
        "rdma_devices": sorted(os.listdir(RDMA)) if os.path.isdir(RDMA) else [],
        "certificates": certificates(),
        "accelerators": accelerators(),
        "paths": {path: space(path) for path in paths},
        "clock_s": time.time(),
        "clock_synchronised": synchronised(),
    }


def certificates():
    """VM -> the certificate of its member here, if it encrypts its links."""
    found = sorted(glob.glob(CERTIFICATES))[:CERTIFICATES_MAX]
    return {path.split("/")[-3]: read(path)[:CERTIFICATE_CHARS_MAX] for path in found}


def accelerators():
    """VM -> the accelerator that this host's settings name, of VMs that are deployed here."""
    found = {}
    for path in sorted(glob.glob(SETTINGS))[:CERTIFICATES_MAX]:
        with contextlib.suppress(ValueError, AttributeError):
            found[os.path.basename(path)[: -len(".json")]] = str(json.loads(read(path)).get("guest_accel", ""))[:16]
    return found


def is_user(name):
    try:
        return bool(pwd.getpwnam(name))
    except (KeyError, ValueError):
        return False


def apparmor():
    """Why QEMU cannot be confined here; empty if it can. (The runtime's own look is plover/host/apparmor.py.)"""
    if read(APPARMOR).strip() != "Y":
        return "its kernel has no AppArmor, or it is switched off; boot with apparmor=1"
    parser = any(os.access(f"{folder}/apparmor_parser", os.X_OK) for folder in ("/usr/sbin", "/sbin"))
    return "" if parser else "apparmor_parser is missing; install the package apparmor"


def cpu():
    """Of the first CPU."""
    found = {}
    for line in read("/proc/cpuinfo").split("\n\n")[0].splitlines():
        key, _colon, value = line.partition(":")
        found[key.strip()] = value.strip()
    return {"vendor": found.get("vendor_id", ""), "model": found.get("model name", ""), "flags": sorted(found.get("flags", "").split())}


def memory_mib():
    found = re.search(r"^MemTotal:\s+(\d+)", read(MEMORY), re.MULTILINE)
    return int(found.group(1)) >> 10 if found else 0


def space(path):
    """The file system that ``path`` is on, or will be on once it is made."""
    place = path
    while not os.path.exists(place) and place not in ("", "/"):
        place = os.path.dirname(place)
    try:
        found, device = os.statvfs(place or "/"), os.stat(place or "/").st_dev
    except OSError:
        return {"exists": False, "free_mib": 0, "size_mib": 0, "free_inodes": 0, "read_only": True, "device": 0}
    unit = found.f_frsize
    return {
        "exists": place == path,
        "free_mib": found.f_bavail * unit >> 20,
        "size_mib": found.f_blocks * unit >> 20,
        "free_inodes": found.f_favail if found.f_files else 1 << 20,  # some file systems have no count
        "read_only": bool(found.f_flag & os.ST_RDONLY),
        "device": device,
    }


def qemu(binary):
    """The installed QEMU and what it was built with; or, where there is none, the version that would be installed."""
    said = tool(binary, "--version")
    version = re.search(r"version (\S+)(?: \(([^)]*)\))?", said)
    out = {"path": binary, "version": "", "package": "", "candidate": ""}
    if version:
        out.update(version=version.group(1), package=version.group(2) or "")
        helped = {key: words_of(tool(binary, *options, "help")) for key, options in HELP.items()}
        return {**out, **helped, "colo_loop": colo_loop.dialect(binary), "block_drivers": block_drivers.usable(binary)}
    candidate = re.search(r"Candidate: (\S+)", tool(*APT_POLICY, "qemu-system-x86"))
    if candidate and candidate.group(1) != "(none)":
        out["candidate"] = candidate.group(1)
    return {**out, **{key: [] for key in HELP}, "colo_loop": colo_loop.UNKNOWN, "block_drivers": None}


def words_of(text):
    """The first word of each line."""
    return [line.split()[0] for line in text.splitlines() if line.split()][:2000]


def synchronised():
    """Whether NTP or the like disciplines the kernel's clock; None if unknown."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != UNSYNCHRONISED
