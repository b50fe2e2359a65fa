# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's hosts start from: a Debian 12 base image, an offline package repository, the Python wheels."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .hosts import sh
from .paths import CACHE, LAB, ROOT

BASE_PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "python3",
    "openssh-server",
    "iproute2",
    "iputils-ping",
    "procps",
    "kmod",
    "nftables",
    "openssl",  # as each Debian that has ca-certificates
]
TARGET_PACKAGES = [
    "qemu-system-x86",
    "qemu-utils",
    "python3-apt",
    "python3-rich",
    "rdma-core",
    "ibverbs-providers",
    "ibverbs-utils",
    "perftest",
    "python3-pyverbs",
    "ifupdown",
    "network-manager",
    "netplan.io",
    "ufw",
    "firewalld",
]
BACKPORTS = "backports"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
DPKG = "force-unsafe-io\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/locale/*\n"


def sources() -> Path:
    return SOURCES if SOURCES.exists() else Path("/etc/apt/sources.list")


def rootfs() -> Path:
    key = hashlib.sha256(f"{BASE_PACKAGES}{DPKG}3".encode()).hexdigest()[:12]
    base = CACHE / f"rootfs-{key}"
    if not (base / ".complete").exists():
        shutil.rmtree(base, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        options = [f"--dpkgopt={line}" for line in DPKG.split()]
        subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                *options,
                f"--include={','.join(BASE_PACKAGES)}",
                "bookworm",
                str(base),
                str(sources()),
            ],
            check=True,
        )
        (base / "etc/machine-id").write_text("")
        (base / "etc/dpkg/dpkg.cfg.d/lab").write_text(DPKG)
        (base / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/apt ./\n")
        for extra in (base / "etc/apt/sources.list.d").iterdir():
            extra.unlink()
        for key_file in (base / "etc/ssh").glob("ssh_host_*"):
            key_file.unlink()
        (base / ".complete").touch()
    return base


def lacking(base: Path, packages: list[str]) -> list[str]:
    """name=version of these packages and of all that they need, as far as the base image lacks it."""
    status = f"Dir::State::status={base}/var/lib/dpkg/status"
    simulated = sh("apt-get", "-s", "-o", status, "install", "--no-install-recommends", *packages)
    return sorted(f"{line.split()[1]}={line.split('(')[1].split()[0]}" for line in simulated.splitlines() if line.startswith("Inst "))


def apt_repo(base: Path, more: Sequence[str] = ()) -> Path:
    """A flat repository of what the roles install, and ``more``, and the base image lacks."""
    wanted = lacking(base, [*TARGET_PACKAGES, *more])
    repo = CACHE / f"apt-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    if not (repo / "Packages").exists():
        shutil.rmtree(repo, ignore_errors=True)
        repo.mkdir(parents=True)
        subprocess.run(
            ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *wanted], cwd=repo, check=True, stdout=subprocess.DEVNULL
        )
        index = subprocess.run(["dpkg-scanpackages", "-m", "."], cwd=repo, check=True, capture_output=True).stdout
        (repo / "Packages").write_bytes(index)
    return repo


def newer_qemu_repo() -> Path:
    """A flat repository of the QEMU that Debian's backports have for this release, and of all that it needs."""
    folder = CACHE / "apt-backports"
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    text = re.sub(r"\b(\w+)-updates\b", rf"\1-updates \1-{BACKPORTS}", sources().read_text())
    (parts / sources().name.replace("sources.list", "all.list")).write_text(text)
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    places = {"State::lists": folder / "lists", "Etc::sourcelist": "/dev/null", "Etc::sourceparts": parts, "Cache": folder / "cache"}
    apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", *(word for key, at in places.items() for word in ("-o", f"Dir::{key}={at}"))]
    (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    subprocess.run([*apt, "update"], check=True)
    status = ["-o", f"Dir::State::status={rootfs()}/var/lib/dpkg/status"]
    release = next(word for word in text.split() if word.endswith(f"-{BACKPORTS}"))
    simulated = sh(*apt, *status, "-s", "-t", release, "install", "--no-install-recommends", "qemu-system-x86", "qemu-utils")
    wanted = sorted(f"{line.split()[1]}={line.split('(')[1].split()[0]}" for line in simulated.splitlines() if line.startswith("Inst "))
    repo = CACHE / f"apt-newer-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    if not (repo / "Packages").exists():
        shutil.rmtree(repo, ignore_errors=True)
        repo.mkdir(parents=True)
        subprocess.run([*apt, "download", *wanted], cwd=repo, check=True, stdout=subprocess.DEVNULL)
        index = subprocess.run(["dpkg-scanpackages", "-m", "."], cwd=repo, check=True, capture_output=True).stdout
        (repo / "Packages").write_bytes(index)
    return repo


def wheels() -> Path:
    requirements = ROOT / "requirements" / "target-python.txt"
    folder = CACHE / f"wheels-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "-q",
                "--disable-pip-version-check",
                "download",
                "--no-deps",
                "--require-hashes",
                "-r",
                str(requirements),
                "-d",
                str(folder),
            ],
            check=True,
        )
    return folder


def link(name: str, target: Path) -> None:
    LAB.mkdir(parents=True, exist_ok=True)
    path = LAB / name
    if path.is_symlink():
        path.unlink()
    path.symlink_to(target)
