# SPDX-License-Identifier: GPL-3.0-or-later
"""Dirty trackers under concurrent writers (native/tests/test_writers.c), each on a kernel that has it: none is forgotten.

This machine's kernel need not have soft-dirty; Debian 12's has, so that one runs in a guest with the demo's kernel.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.guest_image import KERNEL, build, cpio
from lab.paths import ROOT

NATIVE = ROOT / "native"
SECONDS, GUEST_SECONDS, GUEST_SECONDS_MAX = 3, 10, 120
INIT = f"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/shm
/bin/busybox mount -t tmpfs shm /dev/shm
exec >/dev/ttyS0 2>&1
/bin/test_writers /none soft-dirty {GUEST_SECONDS}
echo "writers: ended with $?"
/bin/busybox poweroff -f
"""


def program(name: str) -> Path:
    subprocess.run(["make", "-s", "-C", NATIVE, f"build/{name}"], check=True)
    return NATIVE / "build" / name


@pytest.mark.parametrize("backend", ["scan", "uffd-wp"])
def test_no_write_is_forgotten(backend):
    done = subprocess.run(
        [program("test_writers"), NATIVE / "build", backend, str(SECONDS)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_soft_dirty_forgets_no_write_either_and_wants_its_memory_locked(tmp_path):
    image, binary = build(), program("test_writers_static")
    initrd = tmp_path / "initrd.img"
    own = cpio({"init": (0o100755, INIT.encode()), "bin/test_writers": (0o100755, binary.read_bytes())})
    whole = image.initrd.read_bytes()
    initrd.write_bytes(whole + bytes(-len(whole) % 512) + own)  # the later archive's files take the place of the earlier's
    done = subprocess.run(
        [
            "qemu-system-x86_64",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-vga",
            "none",
            "-no-reboot",
            "-machine",
            "pc,accel=tcg",
            "-smp",
            "2",
            "-m",
            "256M",
            "-kernel",
            image.kernel,
            "-initrd",
            initrd,
            "-append",
            KERNEL,
            "-serial",
            "stdio",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GUEST_SECONDS_MAX,
        check=False,
    )
    said = [line.strip() for line in done.stdout.splitlines() if line.startswith("writers: ")]
    assert said[-1:] == ["writers: ended with 0"], done.stdout[-3000:] + done.stderr[-1000:]
    assert "0 pages forgotten" in said[0], said
