# SPDX-License-Identifier: GPL-3.0-or-later
"""The serial console's log: whatever a guest writes, it stays small, and its end is there."""

from __future__ import annotations

import os
import subprocess

import pytest
from plover.host.console_log import ConsoleLog

LIMIT = 16 << 10


@pytest.fixture
def path(tmp_path):
    return tmp_path / "console.log"


def taken(path):
    """What the log and its older part take."""
    return sum(p.stat().st_blocks * 512 for p in (path, path.with_name("console.log.1")) if p.exists())


def test_a_small_log_is_left_alone(path):
    console = ConsoleLog(path, LIMIT)
    assert not console.bound(), "there is no QEMU yet"
    path.write_bytes(b"x" * LIMIT)
    assert not console.bound() and path.read_bytes() == b"x" * LIMIT


def test_whatever_is_written_the_end_is_there_and_no_more_than_two_limits(path):
    console, written = ConsoleLog(path, LIMIT), b""
    with open(path, "ab", buffering=0) as guest:  # QEMU: append=on
        for n in range(500):
            text = f"{n:6} {'y' * 290}\n".encode()
            guest.write(text)
            written += text
            console.bound()
            assert taken(path) <= 2 * LIMIT + 8192
    end = path.with_name("console.log.1").read_bytes() + path.read_bytes()
    assert len(end) > LIMIT and written.endswith(end)


def test_the_log_of_a_qemu_that_does_not_append_stays_small_too(path):
    """Started by an earlier version: it goes on writing at its own place, so the beginning is a hole."""
    console = ConsoleLog(path, LIMIT)
    with open(path, "wb", buffering=0) as guest:
        for _ in range(100):
            guest.write(b"z" * 4096)
            console.bound()
            assert taken(path) <= 2 * LIMIT + 16384
    assert (path.with_name("console.log.1").read_bytes() + path.read_bytes()).endswith(b"zz")


@pytest.mark.parametrize("name", ["console.log", "console.log.1", "console.log.1.new"])
def test_root_writes_through_no_link_that_qemus_user_made(path, name):
    victim = path.with_name("victim")
    victim.write_bytes(b"root's own" * LIMIT)
    before = victim.read_bytes()
    if name != "console.log":
        path.write_bytes(b"x" * 3 * LIMIT)
    path.with_name(name).symlink_to(victim)
    ConsoleLog(path, LIMIT).bound()
    assert victim.read_bytes() == before
    if name != "console.log":
        assert path.stat().st_size == 0 and path.with_name("console.log.1").read_bytes() == b"x" * LIMIT


@pytest.mark.parametrize("name", ["console.log", "console.log.1.new"])
def test_a_pipe_there_holds_nobody_up(path, name):
    if name != "console.log":
        path.write_bytes(b"x" * 3 * LIMIT)
    os.mkfifo(path.with_name(name))
    ConsoleLog(path, LIMIT).bound()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs")
def test_on_a_full_file_system_it_still_gets_small(tmp_path, caplog):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "small", str(small)], check=True)
    try:
        path = small / "console.log"
        with open(path, "ab", buffering=0) as guest:
            with pytest.raises(OSError, match="No space"):
                while True:
                    guest.write(b"w" * 4096)
            console = ConsoleLog(path, LIMIT)
            assert console.bound() and path.stat().st_size == 0
            guest.write(b"end\n")
        assert path.read_bytes() == b"end\n" and not (small / "console.log.1").exists()
        assert "its old part is lost" in caplog.text
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
