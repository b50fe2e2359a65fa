# SPDX-License-Identifier: GPL-3.0-or-later
"""After the reset: each host has what it had before anything was deployed. Packages stay, and what they brought."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
KEPT = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
# The images of disks stay, wherever they lie; this VM has none. What Debian's package qemu-system makes of its own:
OF_PACKAGES = ("group kvm:", "group rdma:", "unit run-")


def of_a_package(host, line: str) -> bool:
    path = f"/lib/systemd/system/{line.split()[1]}" if line.startswith("unit ") else line
    return path.startswith("/") and host.run(f"dpkg -S '{path}'").rc == 0


def test_nothing_is_left_but_packages(host):
    before = set((KEPT / f"before-{host.check_output('hostname')}").read_text().splitlines())
    now = set(host.check_output((HERE / "files.sh").read_text()).splitlines())
    more = sorted(line for line in now - before if not line.startswith(OF_PACKAGES) and not of_a_package(host, line))
    assert more == []
    assert sorted(before - now) == []


def test_nothing_runs_and_no_command_is_left(host):
    assert not host.exists("ploverctl") and not host.exists("plover-hash")
    assert host.run("pgrep -f 'plover|qemu-system'").stdout.split() == []
