# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot guest: a disk with GRUB in its first sectors, and one ext4 partition with kernel, initrd, Redis and its data.

As an installed system, it needs nothing from outside: SeaBIOS loads GRUB, GRUB the kernel. From Debian packages only, unpacked into
the cache; nothing is installed on the machine. `python3 -m lab.boot_guest` builds it and prints its path.

In the guest: Redis on 6379 (every acknowledged write is on the disk), at 192.168.79.50 or the address of the cloud-init seed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from . import disk_guest, guest_image
from .disk_guest import module_files
from .guest_image import GUEST, KERNEL, cpio, kernel_package, libraries, run, versions
from .paths import CACHE

GRUB = ["grub-pc-bin", "grub-common"]
LIBRARIES = ["libdevmapper1.02.1", "libselinux1", "libudev1", "libpcre2-8-0"]  # of GRUB's tools
PACKAGES = [*guest_image.PACKAGES, *GRUB, *LIBRARIES]
MODULES = {
    "virtio-blk": ["virtio_pci", "virtio_blk"],
    "virtio-scsi": ["virtio_pci", "virtio_scsi", "sd_mod"],
    "ide": ["ata_piix", "sd_mod"],
}
MORE_MODULES = ["virtio_net", "crc32c_generic", "ext4", "isofs", "sr_mod", "virtio_rng"]
GRUB_FOLDER = "usr/lib/grub/i386-pc"
GRUB_MODULES = ["biosdisk", "normal", "linux", "serial", "terminal", "echo", "boot"]
CD_PACKAGES = ["genisoimage", "libmagic1", "zlib1g", "libbz2-1.0"]
OWN_FILES = {"boot-init": "sbin/init", "disk-redis.conf": "etc/redis.conf"}
SECTOR, PARTITION_AT, IMAGE_MIB = 512, 2048, 128
BOOT_CODE, LINUX = 440, 0x83  # of a partition table in the first sector (the BIOS boot specification)
CD_ADDRESSES = ("192.168.79.50", "192.168.79.1")  # of the guest, and of its clients' side
UUID = "6f9619ff-8b86-4d01-b42d-00cf4fc964d2"


class BootGuest(NamedTuple):
    """``image`` is the cache's own: never written to. A guest runs on a copy."""

    image: Path

    def copy_to(self, path: Path) -> Path:
        return disk_guest.DiskGuest(self.image, self.image, self.image).copy_to(path)


def initrd(tree: Path) -> bytes:
    base = next((tree / "lib/modules").iterdir())
    modules = module_files(base, list(dict.fromkeys(name for names in (*MODULES.values(), MORE_MODULES) for name in names)))
    return cpio(
        {
            "init": (0o100755, (GUEST / "boot-initrd").read_bytes()),
            "bin/busybox": (0o100755, (tree / "bin/busybox").read_bytes()),
            "modules/order": (0o100644, " ".join(path.name for path in modules).encode() + b"\n"),
            **{f"modules/{path.name}": (0o100644, path.read_bytes()) for path in modules},
            **{f"{folder}/.keep": (0o100644, b"") for folder in ("dev", "proc", "root")},
        }
    )


def root(tree: Path, out: Path, disk: str) -> None:
    """The root file system's files."""
    redis = (tree / "usr/bin/redis-server").resolve()
    if not redis.exists():
        redis = tree / "usr/bin/redis-check-rdb"
    for folder in ("bin", "sbin", "usr/bin", "lib", "etc", "dev", "proc", "sys", "run", "tmp", "data/redis", "boot/grub"):
        (out / folder).mkdir(parents=True)
    out.chmod(0o755)
    shutil.copy(tree / "bin/busybox", out / "bin/busybox")
    for applet in run(str(tree / "bin/busybox"), "--list").split():
        (out / "bin" / applet).symlink_to("busybox") if applet != "busybox" else None
    shutil.copy(redis, out / "usr/bin/redis-server")
    # By their last part: the loader is there under its whole path as well, which is that of this machine's own.
    for name, path in {Path(name).name: path for name, path in libraries(tree, redis).items()}.items():
        shutil.copy(path, out / "lib" / name)
    (out / "lib64").symlink_to("lib")
    for name, place in OWN_FILES.items():
        shutil.copy(GUEST / name, out / place)
    (out / "sbin/init").chmod(0o755)
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), out / "boot/vmlinuz")
    (out / "boot/initrd.img").write_bytes(initrd(tree))
    words = (GUEST / "boot-grub.cfg").read_text().replace("@root@", disk).replace("@kernel@", KERNEL)
    (out / "boot/grub/grub.cfg").write_text(words)


def in_tree(tree: Path, program: str, *words: str) -> None:
    """Run a program of the tree with the tree's libraries."""
    lib = ":".join(str(tree / place) for place in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"))
    loader = (tree / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2").resolve()
    run(str(loader), "--library-path", lib, str(tree / program), *words)


def grub(tree: Path, kind: str, prefix: str, core: Path, *modules: str) -> None:
    options = ["-d", str(tree / GRUB_FOLDER), "-O", kind, "-p", prefix, "-o", str(core)]
    in_tree(tree, "usr/bin/grub-mkimage", *options, *GRUB_MODULES, *modules)


def boot_sectors(tree: Path, scratch: Path, image_mib: int = IMAGE_MIB) -> bytes:
    """The sectors before the partition: GRUB's boot.img, which loads sector 1 and on, and its core with what it needs to read ext4."""
    core = scratch / "core.img"
    grub(tree, "i386-pc", "(hd0,msdos1)/boot/grub", core, "part_msdos", "ext2")
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", LINUX, b"\xfe\xff\xff", PARTITION_AT, (image_mib << 11) - PARTITION_AT)
    table = b"plvr\0\0" + entry + bytes(48) + b"\x55\xaa"
    return (tree / GRUB_FOLDER / "boot.img").read_bytes()[:BOOT_CODE] + table + core.read_bytes()


def fill(tree: Path, out: Path, disk: str) -> None:
    image, files = out / "disk.img", out / "root"
    files.mkdir()
    root(tree, files, disk)
    first = boot_sectors(tree, out)
    if len(first) > PARTITION_AT * SECTOR:
        raise SystemExit("boot guest: GRUB does not fit before the first partition")
    with open(image, "wb") as file:
        file.write(first)
        file.truncate(IMAGE_MIB << 20)
    offset = PARTITION_AT * SECTOR
    options = f"offset={offset},hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
    size = f"{(IMAGE_MIB << 10) - (offset >> 10)}k"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-U", UUID, "-E", options, "-d", str(files), str(image), size)
    shutil.rmtree(files)
    (out / "core.img").unlink()
    image.chmod(0o444)


@functools.cache
def build(disk: str = "/dev/vda1") -> BootGuest:
    """The guest for today's Debian packages, from the cache if possible. ``disk``: its partition, by the name that its kernel gives it."""
    packages = [kernel_package(), *PACKAGES]
    own = [GUEST / name for name in ("boot-initrd", "boot-grub.cfg", *OWN_FILES)]
    inputs = [Path(__file__), Path(guest_image.__file__), Path(disk_guest.__file__), *own]
    key = hashlib.sha256(json.dumps([versions(packages), disk, [p.read_text() for p in inputs]]).encode()).hexdigest()[:16]
    target = CACHE / f"boot-guest-{key}"
    if not (target / "disk.img").exists():
        guest_image.make(target, packages, functools.partial(fill, disk=disk))
    return BootGuest(target / "disk.img")


def fill_cd(tree: Path, out: Path) -> None:
    """A CD with GRUB, by El Torito, and the demo guest: it has all it needs in its initramfs."""
    files = out / "cd"
    folder = files / "boot/grub"
    folder.mkdir(parents=True)
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), files / "boot/vmlinuz")
    (files / "boot/initrd.img").write_bytes(guest_image.initramfs(tree))
    words = (GUEST / "boot-grub.cfg").read_text().replace("@root@", "none")
    (folder / "grub.cfg").write_text(words.replace("@kernel@", guest_image.CMDLINE.format(ip=CD_ADDRESSES[0], gw=CD_ADDRESSES[1])))
    grub(tree, "i386-pc-eltorito", "/boot/grub", folder / "boot.img", "iso9660")
    options = ["-quiet", "-R", "-b", "boot/grub/boot.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    in_tree(tree, "usr/bin/genisoimage", *options, "-o", str(out / "cd.iso"), str(files))
    shutil.rmtree(files)
    (out / "cd.iso").chmod(0o444)


@functools.cache
def build_cd() -> Path:
    """An ISO image that boots the demo guest."""
    packages = [kernel_package(), *PACKAGES, *CD_PACKAGES]
    inputs = [Path(__file__), Path(guest_image.__file__), GUEST / "boot-grub.cfg", *(GUEST / name for name in guest_image.OWN_FILES)]
    key = hashlib.sha256(json.dumps([versions(packages), [p.read_text() for p in inputs]]).encode()).hexdigest()[:16]
    target = CACHE / f"boot-cd-{key}"
    if not (target / "cd.iso").exists():
        guest_image.make(target, packages, fill_cd)
    return target / "cd.iso"


def main() -> int:
    os.umask(0o022)
    print(f"image  {build().image}\nCD     {build_cd()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
