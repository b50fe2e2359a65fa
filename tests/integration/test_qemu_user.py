# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU as an unprivileged user: everything that it opens later by name must still work."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from harness import REPLICAS, connect
from test_main_job import lost, other, write

USER = pwd.getpwnam("nobody")  # whoever it is


CONFINED = {"NoNewPrivs": "1", "Seccomp": "2"}


def identity(pid: int) -> tuple[set[str], set[str], int]:
    """(user ids, group ids, effective capabilities) of a process."""
    lines = status_of(pid)
    return set(lines["Uid"].split()), set(lines["Gid"].split()), int(lines["CapEff"], 16)


def status_of(pid: int) -> dict[str, str]:
    lines = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {key: value.strip() for key, value in lines}


def dumped(pid: int) -> list[str]:
    """Mappings of guest memory that would be in a core dump."""
    out, name = [], ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.split(" ", 1)[0].count("-") == 1 and ":" not in line.split(" ", 1)[0]:
            name = line
        elif line.startswith("VmFlags:") and ".ram" in name and "dd" not in line.split():
            out.append(name)
    return out


@pytest.fixture
def tmp_path():
    """One that QEMU's user may pass through. pytest's own may not be, and each pytest that starts closes it anew."""
    with tempfile.TemporaryDirectory(prefix="plover-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def may(*command: str) -> bool:
    """Whether the user can do that."""
    return (
        subprocess.run(
            ["setpriv", f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups", *command], capture_output=True, check=False
        ).returncode
        == 0
    )


@pytest.mark.parametrize("cache", ["writeback", "none"])
def test_a_vm_with_a_disk_is_filled_fails_over_and_is_filled_again(new_group, tmp_path, cache):
    """``none``: each QEMU must also have loaded what keeps a failed flush failed, and be able to note one."""
    images = {member: tmp_path / f"{member}.img" for member in REPLICAS}
    for path in images.values():
        path.touch(mode=0o600)
        os.truncate(path, 32 << 20)
    group = new_group(
        own={member: {"disks": [{"path": str(path), "cache": cache}]} for member, path in images.items()}, qemu_user=USER.pw_name
    )
    group.start()
    group.wait("primary", seconds=120, service="protected")
    client, acked = connect(), {}
    for leader in REPLICAS:
        for member in REPLICAS:
            pid = group.qemu_pid(member)
            assert identity(pid) == ({str(USER.pw_uid)}, {str(USER.pw_gid)}, 0)
            assert status_of(pid).items() >= CONFINED.items() and dumped(pid) == []
            assert re.search(r"^Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text(), re.M)
        for n in range(30):
            write(client, acked, f"{leader}{n}", str(n) * 20)
        report = group.audit(disks=True)
        assert report["mismatching"] == report["disk_blocks_mismatching"] == 0, report
        group.power_off(leader)
        write(client, acked, f"after {leader}", "x")
        group.start(leader)
        group.wait(other(leader), seconds=120, service="protected")
    assert lost(client, acked) == []
    for member in REPLICAS:
        run, state = group.run_folder(member), group.folder / member / "state" / "demo"
        secret = [path for path in (images[member], *state.rglob("*")) if path.is_file()]
        assert len(secret) > 1 and not any(may("cat", str(path)) for path in secret)
        assert not any(may("test", "-w", str(path)) for path in run.iterdir()) and (run / "ctl.sock").exists()
        overlays = next(Path(group.memory_folder(member)).glob("*.disks"))
        assert not any(may("touch", str(folder / "its-own")) for folder in (run, overlays, overlays.parent, group.log_folder(member)))
        assert [path.name for path in run.iterdir() if path.stat().st_uid] == [], "nothing there is QEMU's user's"


def test_a_user_that_is_not_there_is_named(new_group):
    group = new_group(qemu_user="no-such-user")
    group.start("primary", "witness")
    group.wait_for_log("primary", "qemu_user: there is no user no-such-user on this host, and QEMU does not run as root in its place")
