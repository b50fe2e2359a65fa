# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk guest: a Debian kernel, an initrd with drivers, and an ext4 disk with PostgreSQL, Redis and SQLite.

From Debian packages only, unpacked into the cache; nothing is installed on the machine. The disk is one file system
without partitions, for virtio-blk (`/dev/vda`). PostgreSQL's cluster is made at build time, with a fresh identifier, so two
builds differ in some bytes; the cache keeps one. Needs root. `python3 -m lab.disk_guest` builds it and prints the paths.

In the guest: PostgreSQL on 5432 (user `postgres`, database `bank`, amcheck installed, anyone on its network is let in),
Redis on 6379 (every acknowledged write is on the disk), and with the kernel parameter `plover.sqlite` a loop that appends
two rows a transaction to `/data/rows.db`, about every 50 ms. To look at the disk of a dead guest: `lab.disk_check`.
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
from pathlib import Path
from typing import NamedTuple

from . import guest_image
from .guest_image import GUEST, cpio, kernel_package, libraries, run, versions
from .paths import CACHE

PACKAGES = [
    "busybox-static",
    "postgresql-15",
    "redis-server",
    "redis-tools",
    "sqlite3",
    "libatomic1",
    "libaudit1",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libcrypt1",
    "libffi8",
    "libgcc-s1",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libicu72",
    "libidn2-0",
    "libjemalloc2",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblz4-1",
    "liblzf1",
    "liblzma5",
    "libnettle8",
    "libp11-kit0",
    "libpam0g",
    "libpq5",
    "libreadline8",
    "libsasl2-2",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libtasn1-6",
    "libtinfo6",
    "libunistring2",
    "libuuid1",
    "libxml2",
    "libzstd1",
    "zlib1g",
]
POSTGRES = "usr/lib/postgresql/15"
PROGRAMS = [f"{POSTGRES}/bin/postgres", f"{POSTGRES}/bin/initdb", "usr/bin/redis-server", "usr/bin/sqlite3"]
MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4"]
OWN_FILES = {
    "disk-init": "sbin/init",
    "disk-redis.conf": "etc/redis.conf",
    "postgresql.conf": "data/postgres/postgresql.conf",
    "pg_hba.conf": "data/postgres/pg_hba.conf",
}
# JIT (bitcode, llvmjit) would need LLVM, a hundred megabytes.
UNWANTED = [
    "boot",
    "lib/modules",
    "usr/lib/modules",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/bug",
    "usr/share/lintian",
    "usr/share/postgresql/15/man",
    "etc/init.d",
    "etc/systemd",
    "lib/systemd",
    f"{POSTGRES}/lib/bitcode",
    f"{POSTGRES}/lib/llvmjit.so",
    f"{POSTGRES}/lib/llvmjit_types.bc",
]
IMAGE_MIB = 384
INODES = 8192
UUID = "6f9619ff-8b86-4d01-b42d-00cf4fc964d1"
POSTGRES_UID = 999
PASSWD = f"root:x:0:0:root:/root:/bin/sh\npostgres:x:{POSTGRES_UID}:{POSTGRES_UID}:postgres:/data/postgres:/bin/sh\n"
GROUP = f"root:x:0:\npostgres:x:{POSTGRES_UID}:\n"
CMDLINE = guest_image.CMDLINE


class DiskGuest(NamedTuple):
    """``image`` is the cache's own: never written to. A guest runs on a copy."""

    kernel: Path
    initrd: Path
    image: Path

    def copy_to(self, path: Path) -> Path:
        """Makes a private disk at ``path``, sparse or sharing its blocks; FileExistsError if the path exists."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        run("cp", "--reflink=auto", "--sparse=always", str(self.image), str(path))
        return path


def module_files(base: Path, wanted: list[str]) -> list[Path]:
    """The files of the modules under ``base`` and of all they depend on, in the order of loading."""
    files = {path.stem.replace("-", "_"): path for path in base.rglob("*.ko")}
    builtin = {Path(line).stem.replace("-", "_") for line in (base / "modules.builtin").read_text().split()}
    order: list[Path] = []

    def add(name: str) -> None:
        if name in builtin or files.get(name) in order:
            return
        if name not in files:
            raise SystemExit(f"disk guest: the kernel has no module {name}")
        depends = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for other in (depends.group(1).decode() if depends else "").split(","):
            if other:
                add(other.replace("-", "_"))
        order.append(files[name])

    for name in wanted:
        add(name)
    return order


def initrd(tree: Path) -> bytes:
    modules = module_files(next((tree / "lib/modules").iterdir()), MODULES)
    return cpio(
        {
            "init": (0o100755, (GUEST / "disk-initrd").read_bytes()),
            "bin/busybox": (0o100755, (tree / "bin/busybox").read_bytes()),
            "modules/order": (0o100644, " ".join(path.name for path in modules).encode() + b"\n"),
            **{f"modules/{path.name}": (0o100644, path.read_bytes()) for path in modules},
            **{f"{folder}/.keep": (0o100644, b"") for folder in ("dev", "root")},
        }
    )


def in_tree(tree: Path, *command: str, said: str = "") -> str:
    """What ``command`` prints, run in the tree as PostgreSQL's user. The machine's /dev is there only for it."""
    script = 'mount --rbind /dev "$1/dev"; tree=$1; shift; exec chroot --userspec="$0:$0" "$tree" "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, str(POSTGRES_UID), str(tree), *command],
        input=said,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    ).stdout


def furnish(tree: Path) -> None:
    """From unpacked packages to a root file system."""
    for program in PROGRAMS:
        libraries(tree, tree / program)
    for name in UNWANTED:
        path = tree / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for folder in ("proc", "sys", "dev", "run", "root", "tmp", "etc", "sbin", "data/redis"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    tree.chmod(0o755)
    (tree / "tmp").chmod(0o1777)
    (tree / "etc/passwd").write_text(PASSWD)
    (tree / "etc/group").write_text(GROUP)
    for applet in run(str(tree / "bin/busybox"), "--list").split():
        if not any((tree / folder / applet).exists() for folder in ("bin", "sbin", "usr/bin", "usr/sbin")):
            (tree / "bin" / applet).symlink_to("busybox")


def make_database(tree: Path) -> None:
    """PostgreSQL's cluster in /data/postgres, with its database."""
    data = tree / "data/postgres"
    data.mkdir(mode=0o700)
    os.chown(data, POSTGRES_UID, POSTGRES_UID)
    in_tree(
        tree,
        f"/{POSTGRES}/bin/initdb",
        "-D",
        "/data/postgres",
        "-U",
        "postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--data-checksums",
        "--no-sync",
        "--no-instructions",
    )
    for database, statement in (("postgres", "CREATE DATABASE bank"), ("bank", "CREATE EXTENSION amcheck")):
        in_tree(tree, f"/{POSTGRES}/bin/postgres", "--single", "-F", "-D", "/data/postgres", database, said=statement + "\n")


def place_own_files(tree: Path) -> None:
    for name, place in OWN_FILES.items():
        (tree / place).write_bytes((GUEST / name).read_bytes())
    (tree / "sbin/init").chmod(0o755)


def make_disk(tree: Path, image: Path) -> None:
    """All tables written now: the guest's kernel would otherwise write them in the background, later."""
    run(
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "0",
        "-N",
        str(INODES),
        "-U",
        UUID,
        "-E",
        f"hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0",
        "-d",
        str(tree),
        str(image),
        f"{IMAGE_MIB}M",
    )
    image.chmod(0o444)


def fill(tree: Path, out: Path) -> None:
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), out / "vmlinuz")
    (out / "initrd.img").write_bytes(initrd(tree))
    furnish(tree)
    make_database(tree)
    place_own_files(tree)
    make_disk(tree, out / "disk.img")


@functools.cache
def build() -> DiskGuest:
    """The guest for today's Debian packages, from the cache if possible."""
    if made := guest_image.ready("disk-guest"):
        return DiskGuest(made / "vmlinuz", made / "initrd.img", made / "disk.img")
    packages = [kernel_package(), *PACKAGES]
    inputs = [Path(__file__), Path(guest_image.__file__), GUEST / "disk-initrd", *(GUEST / name for name in OWN_FILES)]
    key = hashlib.sha256(json.dumps([versions(packages), [p.read_text() for p in inputs]]).encode()).hexdigest()[:16]
    target = CACHE / f"disk-guest-{key}"
    if not (target / "disk.img").exists():
        guest_image.make(target, packages, fill)
    return DiskGuest(target / "vmlinuz", target / "initrd.img", target / "disk.img")


def main() -> int:
    guest = build()
    print(f"kernel {guest.kernel}\ninitrd {guest.initrd}\nimage  {guest.image}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
