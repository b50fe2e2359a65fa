# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo guest: a Debian kernel and an initramfs with busybox, redis-server and lighttpd. From Debian packages only.

Nothing is installed on the machine; packages are downloaded and unpacked into the cache. The same packages give
the same bytes. `python3 -m lab.guest_image` builds it (or finds it in the cache) and prints the paths.

In the guest: Redis on 6379, and with the kernel parameter `plover.web` a web server on 80, whose one page is made anew for
each request.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .paths import CACHE, ROOT

GUEST = ROOT / "lab" / "guest"
PACKAGES = [
    "busybox-static",
    "redis-server",
    "redis-tools",
    "libc6",
    "libatomic1",
    "liblzf1",
    "libjemalloc2",
    "libsystemd0",
    "libssl3",
    "libstdc++6",
    "libgcc-s1",
    "libcap2",
    "libgcrypt20",
    "liblzma5",
    "libzstd1",
    "liblz4-1",
    "libgpg-error0",
    "lighttpd",
    "lighttpd-modules-lua",
    "libcrypt1",
    "liblua5.4-0",
    "libnettle8",
    "libpcre2-8-0",
    "libxxhash0",
]
MODULES = [
    "virtio/virtio_ring.ko",
    "virtio/virtio.ko",
    "virtio/virtio_pci_modern_dev.ko",
    "virtio/virtio_pci_legacy_dev.ko",
    "virtio/virtio_pci.ko",
    "core/failover.ko",
    "net/net_failover.ko",
    "net/virtio_net.ko",
    "acpi/button.ko",
    "input/evdev.ko",
    "misc/pvpanic/pvpanic.ko",
    "misc/pvpanic/pvpanic-mmio.ko",
]
MAGNET = "usr/lib/lighttpd/mod_magnet.so"
OWN_FILES = {"redis.conf": "etc/redis.conf", "lighttpd.conf": "etc/lighttpd.conf", "shop.lua": "www/shop.lua"}
# no_timer_check: a busy machine gives an emulated CPU too little time in the kernel's trial of its timer, and it panics.
KERNEL = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr nowatchdog random.trust_cpu=on no_timer_check"
CMDLINE = KERNEL + " plover.ip={ip}/24 plover.gw={gw}"


class Image(NamedTuple):
    kernel: Path
    initrd: Path


def run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def kernel_package(kind: str = "cloud-amd64") -> str:
    """The package that linux-image-KIND stands for today; the cloud kernels lack most drivers."""
    match = re.search(rf"Depends: (linux-image-\S+-{kind})\n", run("apt-cache", "depends", f"linux-image-{kind}"))
    if not match:
        raise SystemExit(f"guest image: no linux-image-{kind} among the Debian packages; run 'apt-get update'")
    return match.group(1)


def versions(packages: list[str]) -> list[str]:
    """name=version of each package to download: the key of the cache."""
    policy = run("apt-cache", "policy", *packages)
    found = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)", policy, re.M)
    missing = set(packages) - {name for name, version in found if version != "(none)"}
    if missing:
        raise SystemExit(f"guest image: no Debian package {', '.join(sorted(missing))}; run 'apt-get update'")
    return sorted(f"{name}={version}" for name, version in found)


def cpio_entry(inode: int, name: str, mode: int, data: bytes = b"") -> bytes:
    """One newc entry: owner 0, time 0 (Linux Documentation/driver-api/early-userspace/buffer-format.rst)."""
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """name -> (mode, content or link target), packed in the order of the names."""
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    entries = {**{folder: (0o40755, b"") for folder in folders}, **files}
    out = [cpio_entry(n, name, *entries[name]) for n, name in enumerate(sorted(entries), 1)]
    return b"".join(out) + cpio_entry(0, "TRAILER!!!", 0)


def libraries(tree: Path, program: Path) -> dict[str, Path]:
    """soname -> file of everything ``program`` needs, found in ``tree`` by the tree's own loader."""
    lib = [tree / "lib/x86_64-linux-gnu", tree / "usr/lib/x86_64-linux-gnu"]
    loader = (tree / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2").resolve()
    listing = run(str(loader), "--library-path", ":".join(map(str, lib)), "--list", str(program))
    found = {name: Path(path) for name, path in re.findall(r"^\s*(\S+) => (\S+) \(", listing, re.M)}
    missing = re.findall(r"^\s*(\S+) => not found", listing, re.M)
    outside = [str(p) for p in found.values() if not str(p).startswith(str(tree))]
    if missing or outside:
        raise SystemExit(f"guest image: libraries of {program.name} not among the packages: {missing + outside}")
    return {**found, "ld-linux-x86-64.so.2": loader}


def initramfs(tree: Path) -> bytes:
    modules = next((tree / "lib/modules").iterdir()) / "kernel"
    redis = (tree / "usr/bin/redis-server").resolve()
    if not redis.exists():
        redis = tree / "usr/bin/redis-check-rdb"
    files: dict[str, tuple[int, bytes]] = {
        "init": (0o100755, (GUEST / "init").read_bytes()),
        "bin/busybox": (0o100755, (tree / "bin/busybox").read_bytes()),
        "bin/redis-server": (0o100755, redis.read_bytes()),
        "bin/lighttpd": (0o100755, (tree / "usr/sbin/lighttpd").read_bytes()),
        MAGNET: (0o100755, (tree / MAGNET).read_bytes()),
        **{place: (0o100644, (GUEST / name).read_bytes()) for name, place in OWN_FILES.items()},
        "etc/passwd": (0o100644, b"root:x:0:0:root:/:/bin/sh\n"),
        "lib64": (0o120777, b"lib"),
        "etc/acpi/PWRF/00000080": (0o100755, b"#!/bin/sh\npoweroff -f\n"),  # the power button
        "modules/order": (0o100644, " ".join(Path(m).name for m in MODULES).encode() + b"\n"),
        **{f"{folder}/.keep": (0o100644, b"") for folder in ("proc", "sys", "dev", "tmp")},
    }
    for module in MODULES:
        path = next(p for p in (modules / "drivers" / module, modules / "net" / module) if p.exists())
        files[f"modules/{path.name}"] = (0o100644, path.read_bytes())
    for program in (redis, tree / "usr/sbin/lighttpd", tree / MAGNET):
        for name, path in libraries(tree, program).items():
            files[f"lib/{name}"] = (0o100755, path.read_bytes())
    return cpio(files)


def fill(tree: Path, out: Path) -> None:
    """The image's files, from the unpacked packages."""
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), out / "vmlinuz")
    (out / "initrd.img").write_bytes(initramfs(tree))


def make(target: Path, packages: list[str], fill: Callable[[Path, Path], None] = fill) -> None:
    """Download, unpack and ``fill(tree, target)`` (a fresh folder that appears whole or not at all)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        tree, out = Path(scratch, "tree"), Path(scratch, "out")
        tree.mkdir()
        out.mkdir()
        run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages, cwd=Path(scratch))
        for package in sorted(Path(scratch).glob("*.deb")):
            run("dpkg-deb", "-x", str(package), str(tree))
        fill(tree, out)
        if target.exists():
            shutil.rmtree(target)
        out.rename(target)


def ready(kind: str) -> Path | None:
    """The folder of a guest that was brought here with the tests (lab/kvm): a machine without package sources makes none."""
    return Path(guests, kind) if (guests := os.environ.get("PLOVER_GUESTS")) else None


@functools.cache
def build() -> Image:
    """The image for today's Debian packages, from the cache if possible."""
    if made := ready("guest"):
        return Image(made / "vmlinuz", made / "initrd.img")
    packages = [kernel_package(), *PACKAGES]
    inputs = [Path(__file__), *(GUEST / name for name in ("init", *OWN_FILES))]
    key = hashlib.sha256(json.dumps([versions(packages), [p.read_text() for p in inputs]]).encode()).hexdigest()[:16]
    target = CACHE / f"guest-{key}"
    if not (target / "initrd.img").exists():
        make(target, packages)
    return Image(target / "vmlinuz", target / "initrd.img")


def main() -> int:
    image = build()
    print(f"kernel {image.kernel}\ninitrd {image.initrd}\nsha256 {hashlib.sha256(image.initrd.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
