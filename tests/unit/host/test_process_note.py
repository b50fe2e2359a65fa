# SPDX-License-Identifier: GPL-3.0-or-later
"""The note of the leading QEMU: it is written on a full file system too, and nonsense in it is no QEMU."""

from __future__ import annotations

import os
import subprocess

import pytest
from plover.errors import DurableStateError
from plover.host.process_note import HolderNote


def test_the_noted_process_is_known_again_and_no_other(tmp_path):
    HolderNote(tmp_path).write(os.getpid())
    assert HolderNote(tmp_path).alive(os.getpid()) and not HolderNote(tmp_path).alive(os.getppid())
    HolderNote(tmp_path).write(0)
    assert not HolderNote(tmp_path).alive(os.getpid())


@pytest.mark.parametrize("text", ["", "0", "null", "[]", '"pid"', '{"pid": "1"}', "{" * 10_000, "\x00" * 128])
def test_nonsense_is_no_qemu(tmp_path, text):
    (tmp_path / "holder.json").write_text(text)
    assert not HolderNote(tmp_path).alive(os.getpid())


@pytest.mark.parametrize("make", [os.symlink, os.link, lambda _victim, path: os.mkfifo(path)], ids=["symlink", "hard link", "pipe"])
def test_what_somebody_else_put_there_is_not_written_to(tmp_path, make):
    victim = tmp_path / "victim"
    victim.write_text("root's own")
    make(victim, tmp_path / "holder.json")
    HolderNote(tmp_path).write(os.getpid())
    assert victim.read_text() == "root's own" and HolderNote(tmp_path).alive(os.getpid())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs")
def test_a_note_needs_no_room_once_there_is_one(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(tmp_path)], check=True)
    try:
        note = HolderNote(tmp_path)
        note.write(0)
        with pytest.raises(OSError, match="No space"), open(tmp_path / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        note.write(os.getpid())
        assert HolderNote(tmp_path).alive(os.getpid())
        (tmp_path / "holder.json").unlink()
        with open(tmp_path / "filler", "ab", buffering=0) as filler, pytest.raises(OSError, match="No space"):
            while True:
                filler.write(bytes(4096))
        with pytest.raises(DurableStateError, match="run_dir: cannot write .*free space there"):
            HolderNote(tmp_path).write(1)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
