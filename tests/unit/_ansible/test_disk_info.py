# SPDX-License-Identifier: GPL-3.0-or-later
"""What module plover_disk_info says of images: lengths, what is wrong with them, and who has them locked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import plover_disk_info as info
import pytest

MIB = 1 << 20
LOCK = """import fcntl, struct, sys, time
file = open(sys.argv[1], "r+b")
fcntl.fcntl(file, 37, struct.pack("hhqqii", fcntl.F_WRLCK, 0, 100, 200, 0, 0))  # F_OFD_SETLK, as QEMU locks
print("locked", flush=True)
time.sleep(60)"""


class FakeModule:
    """systemctl says that the VM's own QEMU is process ``own``."""

    def __init__(self, own: str = "0") -> None:
        self._own = own

    def run_command(self, words):
        assert words == ["systemctl", "show", "-P", "MainPID", "plover-qemu@demo.service"]
        return 0, self._own + "\n", ""


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    with open(path, "wb") as file:
        file.truncate(MIB)
    return path


@pytest.fixture
def locked(image):
    """The process that has the image locked."""
    with subprocess.Popen([sys.executable, "-c", LOCK, str(image)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def seen(path: Path, kind: str = "raw", module: FakeModule | None = None) -> dict:
    return info.look(module or FakeModule(), {"vm": "demo", "path": str(path), "format": kind})


def test_a_missing_image_is_no_problem_by_itself(tmp_path):
    assert seen(tmp_path / "none") == {"exists": False, "length": 0, "problem": "", "user": ""}


def test_a_raw_images_length_is_the_files(image):
    assert seen(image) == {"exists": True, "length": MIB, "problem": "", "user": ""}


def test_a_qcow2_images_length_is_what_the_guest_sees(tmp_path):
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "7M"], check=True)
    assert seen(path, "qcow2") == {"exists": True, "length": 7 * MIB, "problem": "", "user": ""}
    assert path.stat().st_size != 7 * MIB


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"", "raw", "no whole number of 512-byte sectors"),
        (b"x" * 513, "raw", "no whole number of 512-byte sectors"),
        (b"x" * 512, "qcow2", "is no qcow2 image"),
        (b"QFI\xfb" + b"\0" * 10, "qcow2", "is no qcow2 image"),
        (b"QFI\xfb" + b"\0" * 508, "qcow2", "no whole number of 512-byte sectors"),
    ],
)
def test_what_no_guest_can_use_is_said(tmp_path, content, kind, says):
    path = tmp_path / "bad"
    path.write_bytes(content)
    assert says in seen(path, kind)["problem"]


def test_a_folder_and_a_link_to_nothing_are_said(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    assert "neither a file nor a block device" in seen(tmp_path)["problem"]
    assert seen(tmp_path / "link")["exists"] and "No such file" in seen(tmp_path / "link")["problem"]


def test_whoever_has_the_image_locked_is_named(image, locked):
    assert f"process {locked.pid} (" in seen(image)["user"]


def test_the_vms_own_qemu_may_have_it(image, locked):
    assert seen(image, module=FakeModule(str(locked.pid)))["user"] == ""


def test_beside_the_own_qemu_a_reader_is_nobody_but_a_second_writer_is(image, locked):
    own = FakeModule(str(locked.pid))
    with open(image, "rb"):
        assert seen(image, module=own)["user"] == ""
    with open(image, "r+b"):
        assert seen(image, module=own)["user"].startswith(f"process {os.getpid()} (")


def test_a_lock_without_a_process_here_is_somebodys_too(image, locked, monkeypatch):
    monkeypatch.setattr(info, "writers", lambda path: set())
    assert seen(image)["user"] == "a process that cannot be seen from here"


def test_a_reader_of_qemus_locks_nothing_that_matters(image):
    with subprocess.Popen(
        [sys.executable, "-c", LOCK.replace("F_WRLCK, 0, 100, 200", "F_RDLCK, 0, 100, 1"), str(image)], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        said = seen(image)["user"]
        process.kill()
    assert said == ""


def test_a_real_qemu_is_found(image):
    command = [
        "qemu-system-x86_64",
        "-display",
        "none",
        "-S",
        "-nodefaults",
        "-qmp",
        "stdio",
        "-device",
        "virtio-blk-pci,drive=d",
        "-blockdev",
        f"driver=file,node-name=d,filename={image}",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        qemu.stdin.write(b'{"execute": "qmp_capabilities"}{"execute": "query-block"}')
        qemu.stdin.flush()
        for _ in range(3):  # the greeting and two answers: all is set up
            qemu.stdout.readline()
        said, own = seen(image)["user"], seen(image, module=FakeModule(str(qemu.pid)))["user"]
        qemu.kill()
    assert said.startswith(f"process {qemu.pid} (qemu-system-x86_64") and own == ""


def test_memory_of_our_own_guests_and_overlays_counts_as_free(tmp_path, monkeypatch):
    monkeypatch.setattr(info, "RAM_FILES", str(tmp_path / "*.ram"))
    (tmp_path / "demo.ram").write_bytes(b"x" * (64 * MIB))
    guests = (tmp_path / "demo.ram").stat().st_blocks * 512
    monkeypatch.setattr(info, "open", lambda *a, **k: (tmp_path / "meminfo").open(), raising=False)
    (tmp_path / "meminfo").write_text("MemTotal: 2048 kB\nMemAvailable:   1024 kB\n")
    assert info.free_bytes(5 * MIB) == MIB + 5 * MIB + guests


def test_only_a_mounted_folder_holds_overlays(tmp_path):
    assert info.used_bytes(str(tmp_path)) == 0 and info.used_bytes(str(tmp_path / "none")) == 0
