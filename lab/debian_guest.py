# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian guest as people have it: GRUB, systemd, cloud-init, sshd, nginx and chrony, on one ext4 partition of a raw image.

From Debian's packages alone, as a cloud image is made: nothing in it knows of Plover. Its address, its user and its key come by
cloud-init. `python3 -m lab.debian_guest` builds it (or finds it in the cache) and prints its path.

nginx has one page and `/download`, DOWNLOAD_MIB of it, whose SHA-256 is :func:`download_sha256`.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from . import boot_guest
from .base import DPKG, sources
from .paths import CACHE

RELEASE, IMAGE_MIB, DOWNLOAD_MIB = "bookworm", 1024, 4
PACKAGES = (
    "linux-image-cloud-amd64",
    "grub-pc-bin",
    "systemd-sysv",
    "udev",
    "dbus",
    "iproute2",
    "cloud-init",
    "openssh-server",
    "nginx-light",
    "chrony",
)
UUID = "6f9619ff-8b86-4d01-b42d-00cf4fc964d3"
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt")
KERNEL = "root=/dev/vda1 ro console=ttyS0,115200 no_timer_check"  # a busy machine gives an emulated CPU too little time for that trial
FILES = {
    "etc/fstab": "/dev/vda1 / ext4 errors=remount-ro 0 1\n",
    "etc/hostname": "debian\n",
    "etc/apt/sources.list": "",  # not the one of the machine that made it
    "etc/cloud/cloud.cfg.d/90-datasource.cfg": "datasource_list: [NoCloud, None]\n",
    "boot/grub/grub.cfg": f"""serial --unit=0 --speed=115200
terminal_output serial
echo "GRUB boots Debian"
linux /vmlinuz {KERNEL}
initrd /initrd.img
boot
""",
    "var/www/html/index.html": "<!DOCTYPE html><title>A shop</title><p>It works.\n",
}


def download() -> bytes:
    """What no gzip makes smaller, and what is the same in each build."""
    out = bytearray()
    while len(out) < DOWNLOAD_MIB << 20:
        out += hashlib.sha512(b"plover %d" % len(out)).digest()
    return bytes(out)


@functools.cache
def download_sha256() -> str:
    return hashlib.sha256(download()).hexdigest()


def install(root: Path) -> None:
    options = [f"--dpkgopt={line}" for line in DPKG.split()]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *options, f"--include={','.join(PACKAGES)}", RELEASE]
    subprocess.run([*command, str(root), str(sources())], check=True)
    for folder in UNWANTED:
        shutil.rmtree(root / folder, ignore_errors=True)
    for extra in (root / "etc/apt/sources.list.d").iterdir():
        extra.unlink()
    for host_key in (root / "etc/ssh").glob("ssh_host_*"):
        host_key.unlink()  # cloud-init makes them
    (root / "etc/machine-id").write_text("")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "var/www/html/download").write_bytes(download())
    units = root / "etc/systemd/system/multi-user.target.wants"
    (units / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")


def make(folder: Path) -> None:
    root, image = folder / "root", folder / "disk.img"
    install(root)
    first = boot_guest.boot_sectors(root, folder, IMAGE_MIB)
    with open(image, "wb") as file:
        file.write(first)
        file.truncate(IMAGE_MIB << 20)
    offset = boot_guest.PARTITION_AT * boot_guest.SECTOR
    options = f"offset={offset},hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0"
    words = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-U", UUID, "-E", options, "-d", str(root), str(image)]
    subprocess.run([*words, f"{(IMAGE_MIB << 10) - (offset >> 10)}k"], check=True)
    shutil.rmtree(root)
    (folder / "core.img").unlink()
    image.chmod(0o444)


@functools.cache
def build() -> Path:
    """The image, from the cache if possible; never written to."""
    key = hashlib.sha256(f"{Path(__file__).read_text()}{Path(boot_guest.__file__).read_text()}{DPKG}".encode()).hexdigest()[:12]
    folder = CACHE / f"debian-guest-{key}"
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        (folder / ".complete").touch()
    return folder / "disk.img"


if __name__ == "__main__":
    print(build())
    sys.exit(0)
