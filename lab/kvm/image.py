# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest that has KVM: a Debian release as its packages make it, with that release's own kernel and with a QEMU. All is cached."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from lab import engines
from lab.paths import CACHE

# The cloud kernel has KVM, and boots in a third of the time of the ordinary one.
PACKAGES = (
    "linux-image-cloud-amd64",
    "kmod",
    "python3",
    "python3-pytest",
    "python3-cryptography",
    "python3-yaml",
    "libzstd1",
    "iproute2",
    "procps",
    "util-linux",
    "make",
    "nftables",
    "e2fsprogs",
)
QEMU_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "qemu-utils", "seabios")
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt", "var/cache/apt")
INIT = Path(__file__).with_name("init")
DISK_MIB = 6144  # sparse; the tests' folders are on it


class Image(NamedTuple):
    kernel: Path
    initrd: Path
    disk: Path  # never written to: a guest runs on a snapshot of it


@functools.cache
def build(name: str) -> Image:
    """Of the QEMU with that name in :data:`lab.engines.ENGINES`."""
    engine = engines.ENGINES[name]
    key = hashlib.sha256(f"{engine}{PACKAGES}{QEMU_PACKAGES}{UNWANTED}{DISK_MIB}{INIT.read_text()}".encode()).hexdigest()[:12]
    folder = CACHE / f"kvm-{name}-{key}"
    with engines.locked(CACHE / f"kvm-{name}.lock"):
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _make(folder, engine)
            (folder / ".complete").touch()
    return Image(folder / "vmlinuz", folder / "initrd.img", folder / "disk.img")


def _make(folder: Path, engine: engines.Engine) -> None:
    root = folder / "root"
    _install(root, engine)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next((root / "boot").glob(f"{name}-*")), folder / name)
    for unwanted in UNWANTED:
        shutil.rmtree(root / unwanted, ignore_errors=True)
    shutil.copyfile(INIT, root / "plover-init")
    (root / "plover-init").chmod(0o755)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, folder / "disk.img", f"{DISK_MIB}M"], check=True)
    shutil.rmtree(root)


def _install(root: Path, engine: engines.Engine) -> None:
    release, sources = engines.sources_of(engine, root.parent)
    # Of the backports only QEMU: the kernel is to be the release's own.
    qemu = [f"{package}/{release}-backports" if engine.backports else package for package in QEMU_PACKAGES]
    words = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join([*PACKAGES, *qemu])}", release]
    subprocess.run([*words, str(root), str(sources)], check=True)
