# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest with a real watchdog device (QEMU's i6300esb) in which the adapter runs; QEMU reports what the device was told.

From Debian packages, like the demo guest: the ordinary kernel (the cloud kernel lacks the driver), busybox, python3-minimal.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from py_compile import PycInvalidationMode

from lab.guest_image import KERNEL, Image, cpio, kernel_package, libraries, run, versions
from lab.paths import CACHE, ROOT

PACKAGES = ["busybox-static", "python3.11-minimal", "libpython3.11-minimal", "libc6", "libexpat1", "zlib1g"]
MODULES = ["watchdog/watchdog.ko", "watchdog/i6300esb.ko", "watchdog/softdog.ko"]
RUNTIME = ROOT / "plugins" / "module_utils" / "plover"
INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox insmod /modules/watchdog.ko
/bin/busybox insmod /modules/i6300esb.ko
/bin/busybox insmod /modules/softdog.ko nowayout=1
PYTHONHOME=/usr PYTHONPATH=/app /bin/python3 -u /app/probe.py >/dev/ttyS0 2>&1
/bin/busybox poweroff -f
"""
PROBE = b"""
import time
from plover.errors import FencingError
from plover.host.watchdog import Keeper, Watchdog

WAIT_S = 3.5  # the device fires after 2 s


def failing(text, device):
    try:
        device.arm()
        print("MARK", text, "armed")
    except FencingError as error:
        print("MARK", text, error)


device = Watchdog("/dev/watchdog0", 2)
keeper = Keeper("required", device)
keeper.check()
print("MARK", "checked", device.armed)
keeper.arm()
print("MARK", "armed", keeper.describe())
end = time.monotonic() + WAIT_S
while time.monotonic() < end:
    keeper.progress(time.monotonic())
    time.sleep(0.1)
print("MARK", "fed")
failing("second", Watchdog("/dev/watchdog0", 2))
time.sleep(WAIT_S)
print("MARK", "starved")
keeper.qemu_gone()
keeper.arm()
keeper.qemu_gone()
time.sleep(WAIT_S)
print("MARK", "disarmed")
keeper.arm()
device.abandon()
time.sleep(WAIT_S)
print("MARK", "abandoned")
failing("taken up", device)
device.disarm()
time.sleep(WAIT_S)
print("MARK", "released")
failing("nowayout", Watchdog("/dev/watchdog1", 2))
failing("missing", Watchdog("/dev/watchdog7", 2))
failing("no device", Watchdog("/app/probe.py", 2))
failing("no watchdog", Watchdog("/dev/null", 2))
print("MARK", "end")
"""


def _initramfs(tree: Path) -> bytes:
    modules = next((tree / "lib/modules").iterdir()) / "kernel/drivers"
    python = tree / "usr/bin/python3.11"
    files: dict[str, tuple[int, bytes]] = {
        "init": (0o100755, INIT),
        "bin/busybox": (0o100755, (tree / "bin/busybox").read_bytes()),
        "bin/python3": (0o100755, python.read_bytes()),
        "lib64": (0o120777, b"lib"),
        "app/probe.py": (0o100644, PROBE),
        **{f"{folder}/.keep": (0o100644, b"") for folder in ("proc", "sys", "dev", "tmp")},
        **{f"modules/{Path(m).name}": (0o100644, (modules / m).read_bytes()) for m in MODULES},
        **{
            f"app/plover/{name}": (0o100644, (RUNTIME / name).read_bytes())
            for name in ("__init__.py", "errors.py", "host/__init__.py", "host/console.py", "host/watchdog.py")
        },
    }
    for path in (tree / "usr/lib/python3.11").rglob("*.py*"):
        files[str(path.relative_to(tree))] = (0o100644, path.read_bytes())
    for name, path in libraries(tree, python).items():
        files[f"lib/{name}"] = (0o100755, path.read_bytes())
    return cpio(files)


def build(target: Path) -> Image:
    """Kernel and initramfs in ``target``; the unpacked packages are kept in the cache."""
    packages = [kernel_package("amd64"), *PACKAGES]
    key = hashlib.sha256(json.dumps(["compiled", *versions(packages)]).encode()).hexdigest()[:16]
    tree = CACHE / f"watchdog-guest-{key}"
    if not tree.exists():
        tree.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
            run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages, cwd=Path(scratch))
            whole = Path(scratch, "whole")
            for package in sorted(Path(scratch).glob("*.deb")):
                run("dpkg-deb", "-x", str(package), str(whole))
            drivers = next((whole / "lib/modules").iterdir()) / "kernel"
            for other in [p for p in drivers.iterdir() if p.name != "drivers"] + [
                p for p in (drivers / "drivers").iterdir() if p.name != "watchdog"
            ]:
                shutil.rmtree(other)  # 400 MB that nobody needs here
            # No package's script did it, and under TCG it takes the guest many seconds.
            compileall.compile_dir(whole / "usr/lib/python3.11", quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
            whole.rename(tree)
    (target / "initrd.img").write_bytes(_initramfs(tree))
    return Image(next((tree / "boot").glob("vmlinuz-*")), target / "initrd.img")


def start(image: Image, folder: Path) -> subprocess.Popen:
    """QEMU with the device, whose firing is only reported; sockets 'console' and 'qmp' in ``folder``."""
    return subprocess.Popen(
        [
            "qemu-system-x86_64",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-vga",
            "none",
            "-machine",
            "pc,accel=tcg",
            "-m",
            "256M",
            "-kernel",
            str(image.kernel),
            "-initrd",
            str(image.initrd),
            "-no-reboot",
            "-append",
            KERNEL,
            "-device",
            "i6300esb",
            "-action",
            "watchdog=none",
            "-serial",
            f"unix:{folder}/console,server=on,wait=on",
            "-qmp",
            f"unix:{folder}/qmp,server=on,wait=on",
        ],
        stdin=subprocess.DEVNULL,
    )
