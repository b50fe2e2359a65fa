# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole Debian in a guest whose kernel has rdma_rxe, for role `ofed`. `python3 -m lab.rdma.machine up | down`.

It runs the lab's base image with systemd and sshd. Its root is a copy of that image, reached over 9p, so installed packages
survive a reboot.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from lab import base
from lab.hosts import sh
from lab.paths import LAB

from .guests import NETNS, SUBNET, add_tap, in_netns, make_netns, qemu, remove_netns
from .image import build

FOLDER = LAB / "rdma-machine"
INVENTORY = LAB / "soft-roce.yml"
ADDRESS = f"{SUBNET}.20"
TAP = "machine"
BOOT_S = 180
SSH = (
    f"-i {LAB / 'id'} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=10 "
    f"-o 'ProxyCommand=ip netns exec {NETNS} socat - TCP:%h:%p'"
)


def _disk() -> Path:
    """A copy of the base image with our key."""
    root, source = FOLDER / "root", base.rootfs()
    sh("cp", "-a", "--reflink=auto", f"{source}/.", str(root))
    if not (LAB / "id").exists():
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "plover-lab", "-f", str(LAB / "id"))
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (root / "root/.ssh/authorized_keys").write_text((LAB / "id.pub").read_text())
    (root / "etc/hostname").write_text("machine\n")
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "etc/ssh/ssh_host_ed25519_key"))
    return root


def _command(root: Path) -> list[str]:
    image = build()
    shares = (("root", root, True), ("modules", image.modules, False), ("apt", base.apt_repo(base.rootfs()), False))
    append = f"net.ifnames=0 plover.machine plover.ip={ADDRESS}"
    return qemu(image, append, FOLDER / "console.txt", 2, 1024, [(TAP, "")], shares)


def up() -> None:
    down()
    FOLDER.mkdir(parents=True)
    make_netns()
    add_tap(TAP, "br0")
    with open(FOLDER / "qemu.txt", "ab") as log:
        process = subprocess.Popen(in_netns(*_command(_disk())), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (FOLDER / "pid").write_text(str(process.pid))
    INVENTORY.write_text(
        yaml.safe_dump(
            {
                "plover": {
                    "hosts": {
                        "machine": {
                            "ansible_host": ADDRESS,
                            "ansible_user": "root",
                            "ansible_ssh_common_args": SSH,
                            "ansible_python_interpreter": "/usr/bin/python3",
                            "plover_replication_address": ADDRESS,
                        }
                    }
                }
            }
        )
    )
    end, ask = time.monotonic() + BOOT_S, f"ssh {SSH} root@{ADDRESS} true"
    while subprocess.run(ask, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        if time.monotonic() > end or process.poll() is not None:
            raise SystemExit(f"the machine is not up after {BOOT_S} s; see {FOLDER}/console.txt and qemu.txt")
        time.sleep(1)


def down() -> None:
    try:
        os.kill(int((FOLDER / "pid").read_text()), signal.SIGKILL)
    except (OSError, ValueError):
        pass
    remove_netns()
    shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    {"up": up, "down": down}[sys.argv[1]]()
