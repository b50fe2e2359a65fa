# SPDX-License-Identifier: GPL-3.0-or-later
"""What the RDMA guests boot: Debian's ordinary kernel (the cloud kernels lack rdma_rxe), a small initramfs, and a tree of
Debian packages as their root file system, shared with them over 9p. Nothing is installed on this machine; all is cached.
"""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from lab.base import sources
from lab.guest_image import cpio, kernel_package, run, versions
from lab.paths import CACHE

PACKAGES = [
    "python3-minimal",
    "libpython3-stdlib",
    "python3-pyverbs",
    "ibverbs-providers",
    "ibverbs-utils",
    "rdma-core",
    "perftest",
    "iproute2",
    "busybox-static",
    "kmod",
    "qemu-system-x86",
    "libzstd1",
]
# In the order in which they need each other, as modules.dep has it.
MODULES = ["virtio_pci", "virtio_net", "9pnet_virtio", "9p", "crc32_generic", "rdma_rxe", "rdma_ucm", "tun", "bridge"]
MACHINE_MODULES = MODULES[:4]  # of a whole Debian, which loads the others itself
INIT = Path(__file__).with_name("init")
AGENT = Path(__file__).with_name("agent.py")


class Image(NamedTuple):
    kernel: Path
    initrd: Path
    root: Path
    modules: Path  # what modprobe needs


def vmlinux(bzimage: bytes) -> bytes:
    """The ELF kernel in a bzImage with an XZ payload (Documentation/arch/x86/boot.rst): QEMU starts it by PVH, and no
    time goes into unpacking it under TCG.
    """
    setup = (bzimage[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = setup * 512 + offset
    out = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(bzimage[start : start + length])
    if out[:4] != b"\x7fELF":
        raise SystemExit("RDMA guests: the kernel's payload is no ELF file")
    return out


def needed(tree: Path, names: list[str]) -> list[Path]:
    """The modules and what they depend on, in the order to load them."""
    folder = next((tree / "lib/modules").iterdir())
    subprocess.run(["depmod", "-b", str(tree), folder.name], check=True)
    depends = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        module, _, rest = line.partition(":")
        depends[Path(module).name.split(".")[0].replace("-", "_")] = (module, rest.split())
    order: list[str] = []
    for name in names:
        if name.replace("-", "_") not in depends:
            continue  # built in
        module, rest = depends[name.replace("-", "_")]
        order += [m for m in [*reversed(rest), module] if m not in order]
    return [folder / m for m in order]


def initramfs(kernel_tree: Path, root: Path) -> bytes:
    modules = needed(kernel_tree, MODULES)
    files = {
        "init": (0o100755, INIT.read_bytes()),
        "bin/busybox": (0o100755, (root / "bin/busybox").read_bytes()),
        **{
            f"modules/{name}": (0o100644, " ".join(m.name for m in needed(kernel_tree, names)).encode() + b"\n")
            for name, names in (("order", MODULES), ("order-machine", MACHINE_MODULES))
        },
        **{f"{folder}/.keep": (0o100644, b"") for folder in ("proc", "sys", "dev", "root")},
        **{f"modules/{m.name}": (0o100644, m.read_bytes()) for m in modules},
    }
    return cpio(files)


def _kernel(package: str, target: Path) -> Path:
    scratch = target.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package, cwd=scratch)
    run("dpkg-deb", "-x", str(next(scratch.glob("*.deb"))), str(scratch / "tree"))
    (scratch / "vmlinux").write_bytes(vmlinux(next((scratch / "tree/boot").glob("vmlinuz-*")).read_bytes()))
    next(scratch.glob("*.deb")).unlink()
    scratch.rename(target)
    return target


def _root(target: Path) -> Path:
    scratch = target.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            f"--include={','.join(PACKAGES)}",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "bookworm",
            str(scratch),
            str(sources()),
        ],
        check=True,
    )
    for folder in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl"):
        shutil.rmtree(scratch / folder, ignore_errors=True)
    for folder in ("plover", "shared", "proc", "sys", "dev", "run", "tmp"):
        (scratch / folder).mkdir(exist_ok=True)
    _compile(scratch)
    scratch.rename(target)
    return target


def _compile(root: Path) -> None:
    """Python's modules: no package's script did it, and the guests, which cannot keep the result, would do so for each
    program anew. Under TCG that takes seconds."""
    folders = ["/usr/lib/python3", *(f"/usr/lib/{path.name}" for path in (root / "usr/lib").glob("python3.*"))]
    subprocess.run(
        ["chroot", str(root), "/usr/bin/python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *folders], check=True
    )


def _key(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


@functools.cache
def build() -> Image:
    """From the cache, if it has one for today's packages."""
    package = kernel_package("amd64")
    kernel = CACHE / f"rdma-kernel-{_key(versions([package]))}"
    root = CACHE / f"rdma-root-{_key(['compiled', *versions(PACKAGES)])}"
    if not kernel.exists():
        _kernel(package, kernel)
    if not root.exists():
        _root(root)
    initrd = CACHE / f"rdma-initrd-{_key([kernel.name, root.name, INIT.read_text(), MODULES])}.img"
    if not initrd.exists():
        initrd.write_bytes(initramfs(kernel / "tree", root))
    return Image(kernel / "vmlinux", initrd, root, kernel / "tree/lib/modules")


if __name__ == "__main__":
    print(build())
