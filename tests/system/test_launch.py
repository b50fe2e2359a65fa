# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher becomes QEMU and its user, with descriptors of what root opened; what somebody else prepared is not touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from plover.config.settings import Config
from plover.errors import QemuError
from plover.qemu import launch_file
from plover.qemu.launch_file import CONSOLE_FD, FLUSH, INITRD, KERNEL, NET, QMP, UFFD
from plover.qemu.process import command_line, environment, prepare
from settings import settings

from lab.paths import ROOT

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = 65534
# It stands for QEMU: it says what it is and what it has.
SHOWS = """import os, resource
print(open("/proc/self/status").read(), "core", resource.getrlimit(resource.RLIMIT_CORE))
for fd in range(256):
    try:
        os.fstat(fd)
        print("fd", fd)
    except OSError:
        pass
"""
USER = {"uid": NOBODY, "gid": NOBODY, "groups": []}


@pytest.fixture
def folder():
    """A short path that others cannot enter."""
    with tempfile.TemporaryDirectory(prefix="plv") as path:
        yield Path(path)


def write(folder: Path, descriptors: dict, script: str = SHOWS, user: dict | None = USER, **more) -> Path:
    path = folder / "qemu.json"
    rows = {str(number): row for number, row in descriptors.items()}
    path.write_text(json.dumps({"argv": ["/usr/bin/python3", "-c", script], "env": {}, "descriptors": rows, "user": user, **more}))
    path.chmod(0o600)
    return path


def launch(path: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "plover.qemu_launch", str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins/module_utils")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@AS_ROOT
def test_qemu_is_its_user_with_no_way_back_and_what_root_opened(folder):
    kernel, console = folder / "kernel", folder / "console.log"
    kernel.write_text("of the guest")
    kernel.chmod(0o600)
    script = f"{SHOWS}print(open('/proc/self/fd/{KERNEL}').read())\nos.write({CONSOLE_FD}, b'spoke')"
    rows = {QMP: ["socket", str(folder / "qmp.sock")], CONSOLE_FD: ["console", str(console)], KERNEL: ["boot", str(kernel)]}
    done = launch(write(folder, {**rows, UFFD: ["note", str(folder / "uffd")], 90: ["device", "/dev/none"]}, script))
    said = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert done.returncode == 0, done.stderr
    assert {*said["Uid"].split(), *said["Gid"].split()} == {str(NOBODY)} and said["Groups"].strip() == ""
    assert int(said["CapEff"], 16) == int(said["CapPrm"], 16) == 0 and said["NoNewPrivs"] == "1"
    lines = done.stdout.splitlines()
    assert "core (0, 0)" in done.stdout and "of the guest" in lines, "no core dump; the kernel is read though it is root's alone"
    fds = {line.split()[1] for line in lines if line.startswith("fd ")}
    assert fds - {"0", "1", "2"} == {str(number) for number in (QMP, CONSOLE_FD, KERNEL, UFFD)}, "and nothing else"
    assert console.read_text() == "spoke" and console.stat().st_uid == 0 and console.stat().st_mode & 0o777 == 0o600
    assert (folder / "qmp.sock").is_socket()


def spoil(path: Path, victim: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    match kind:
        case "symlink":
            path.symlink_to(victim)
        case "hard link":
            os.link(victim, path)
        case "pipe":
            os.mkfifo(path)
        case "another user's":
            path.write_text(victim.read_text())
            os.chown(path, NOBODY, NOBODY)


KINDS = ["symlink", "hard link", "pipe", "another user's"]


@AS_ROOT
@pytest.mark.parametrize("kind", KINDS)
def test_a_launch_file_that_is_not_roots_own_is_not_executed(folder, kind):
    made = folder / "made"
    (folder / "other").mkdir()
    victim = write(folder / "other", {}, f"open('{made}', 'w')", None)
    spoil(folder / "qemu.json", victim, kind)
    done = launch(folder / "qemu.json")
    assert done.returncode == 1 and not made.exists()
    assert "not an ordinary file" in done.stderr or "symbolic links" in done.stderr


@AS_ROOT
def test_a_launch_file_that_others_can_write_is_not_executed(folder):
    path = write(folder, {}, f"open('{folder}/made', 'w')", None)
    path.chmod(0o666)
    assert launch(path).returncode == 1 and not (folder / "made").exists()


@AS_ROOT
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ["note", "console", "socket"])
def test_what_lies_in_the_place_of_a_file_for_qemu_is_not_written_to(folder, row, kind):
    victim, path = folder / "victim", folder / "target"
    victim.write_text("root's own")
    spoil(path, victim, kind)
    done = launch(write(folder, {FLUSH: [row, str(path)]}, f"import os; os.write({FLUSH}, b'written')"))
    assert victim.read_text() == "root's own" and victim.stat().st_nlink == (2 if (kind, row) == ("hard link", "console") else 1)
    if row == "console":
        assert done.returncode == 0 and "the VM's console goes nowhere" in done.stderr
    elif row == "note":
        assert done.returncode == 0 and path.read_text() == "written" and path.stat().st_uid == 0


@AS_ROOT
def test_a_file_of_an_earlier_version_starts_its_qemu_as_that_did(folder):
    """Its daemon may run beside this launcher during an upgrade; that QEMU changes its user by itself."""
    path = folder / "qemu.json"
    path.write_text(json.dumps({"argv": ["/usr/bin/python3", "-c", SHOWS], "env": {"A": "1"}}))
    done = launch(path)
    assert done.returncode == 0 and "NoNewPrivs:\t0" in done.stdout and "Uid:\t0" in done.stdout


def test_nonsense_is_refused_with_a_reason(folder):
    for text in ("", "[]", "{}", '{"argv": ["/none"], "env": {}}', '{"argv": ["/bin/true"], "env": {}, "descriptors": {"20": ["x", "y"]}}'):
        (folder / "qemu.json").write_text(text)
        done = launch(folder / "qemu.json")
        assert done.returncode == 1 and "is started by plover-replica@" in done.stderr, text


# --- what is written for it ---


def config(folder: Path, **more) -> Config:
    return Config(
        settings(
            "primary",
            run_dir=str(folder / "run"),
            state_dir=str(folder / "state"),
            log_dir=str(folder / "log"),
            shm_dir=str(folder / "shm"),
            qemu_binary="/bin/true",
            syncvm_dirty_tracking="scan",
            **more,
        )
    )


def test_each_descriptor_of_the_command_line_is_opened(folder):
    made = config(folder, disks=[{"path": "/images/a.img"}, {"path": "/images/b.img"}], guest_initrd="/boot/initrd")
    words, rows = " ".join(command_line(made, True)), launch_file.descriptors(made)
    for number in (QMP, NET, CONSOLE_FD, KERNEL, INITRD, 40, 41, 42, 43):
        assert number in rows and (f"fd={number}" in words or f"fd/{number}" in words or f"addr.str={number}" in words)
    assert "/images" not in words and made.run_dir not in words and str(made.run_path) not in words
    assert set(environment(config(folder, disks=[{"path": "/a", "cache": "none"}])).values()) >= {str(FLUSH)}


@AS_ROOT
def test_memory_is_for_qemus_user_alone_and_its_folder_is_looked_at(folder, monkeypatch):
    monkeypatch.setattr("plover.qemu.kernel_image.check", lambda path: None)
    folder.chmod(0o711)
    made = config(folder, qemu_user="nobody", guest_kernel="/bin/true")
    victim = folder / "victim"
    victim.write_text("root's own")
    made.ram_path.parent.mkdir()
    made.ram_path.symlink_to(victim)
    prepare(made, False)
    found = made.ram_path.lstat()
    assert (found.st_uid, found.st_mode & 0o777, found.st_size) == (NOBODY, 0o600, made.guest_memory_mib << 20)
    assert victim.read_text() == "root's own"
    launch_row = json.loads((made.run_path / "qemu.json").read_text())
    assert launch_row["user"]["uid"] == NOBODY and (made.run_path / "qemu.json").stat().st_mode & 0o777 == 0o600
    made.ram_path.parent.chmod(0o777)
    with pytest.raises(Exception, match="shm_dir: others may write to"):
        prepare(made, False)


def test_what_is_in_the_place_of_the_memory_is_named(folder):
    made = config(folder)
    made.ram_path.mkdir(parents=True, mode=0o711)
    made.ram_path.parent.chmod(0o711)
    with pytest.raises(QemuError, match=f"shm_dir: cannot make {made.ram_path}: Is a directory"):
        launch_file.make_ram_file(made, None)


@AS_ROOT
def test_memory_is_reserved_or_refused_at_once(folder):
    """Not when the guest touches it: that would kill its QEMU, or the daemon."""
    made = config(folder, guest_memory_mib=64)
    made.ram_path.parent.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=711", "small", str(made.ram_path.parent)], check=True)
    try:
        with pytest.raises(QemuError, match="has 32 MiB free, and the VM's memory takes 64 MiB; make that file system larger"):
            launch_file.make_ram_file(made, None)
        assert not made.ram_path.exists()
        subprocess.run(["mount", "-o", "remount,size=80m", str(made.ram_path.parent)], check=True)
        launch_file.make_ram_file(made, None)
        assert made.ram_path.stat().st_blocks * 512 == 64 << 20
    finally:
        subprocess.run(["umount", "-l", str(made.ram_path.parent)], check=True)
