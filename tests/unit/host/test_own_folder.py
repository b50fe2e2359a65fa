# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files of root's own: whatever somebody prepared there, root writes to nothing else and believes nothing."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from plover.errors import QemuError
from plover.host import own_folder

ELSE = 65534  # another user
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of another user's")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_and_used_again(tmp_path):
    for _twice in range(2):
        own_folder.make(tmp_path / "a" / "b", "shm_dir", 0o711)
    assert mode(tmp_path / "a" / "b") == 0o711


def test_the_umask_does_not_open_or_close_it(tmp_path):
    before = os.umask(0o077)
    try:
        own_folder.make(tmp_path / "a", "shm_dir", 0o711)
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == 0o711


@pytest.mark.parametrize("found", [0o777, 0o1777, 0o770, 0o3770, 0o702])
def test_a_folder_that_others_may_write_is_refused(tmp_path, found):
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(found)
    with pytest.raises(QemuError, match=rf"shm_dir: others may write to .*/a \(owner {os.geteuid()}, mode {found:o}\)"):
        own_folder.make(tmp_path / "a", "shm_dir", 0o711)


@AS_ROOT
def test_a_folder_that_another_user_prepared_is_refused(tmp_path):
    (tmp_path / "a").mkdir(mode=0o700)
    os.chown(tmp_path / "a", ELSE, ELSE)
    with pytest.raises(QemuError, match=f"others may write to .*owner {ELSE}.*stop this host's VMs, remove it"):
        own_folder.make(tmp_path / "a", "shm_dir", 0o711)
    with pytest.raises(QemuError, match=f"run_dir: .* belongs to user {ELSE}"):
        own_folder.claim(tmp_path / "a", "run_dir", 0o700)


@pytest.mark.parametrize("take", [own_folder.make, own_folder.claim])
def test_a_link_or_a_file_in_its_place_is_refused(tmp_path, take):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(QemuError, match=f"run_dir: .*/{name} cannot be used as a folder"):
            take(tmp_path / name, "run_dir", 0o700)


@AS_ROOT
def test_what_qemus_user_left_in_a_shared_folder_is_gone_and_roots_own_stays(tmp_path):
    """That of a version that gave QEMU's user a share: mode 3770, its group."""
    folder, victim = tmp_path / "demo", tmp_path / "victim"
    victim.write_text("root's own")
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.bind(str(folder / "qmp.sock"))
        for name in ("holder.json", "console.log"):
            (folder / name).write_text("root's")
        (folder / "device-state").write_text("of QEMU's user")
        (folder / "fake").mkdir()
        (folder / "fake" / "file").touch()
        (folder / "qemu.json").symlink_to(victim)
        os.link(victim, folder / "hard")
        for name in ("device-state", "fake", "qemu.json"):
            os.chown(folder / name, ELSE, ELSE, follow_symlinks=False)
        os.chown(folder, 0, ELSE)
        folder.chmod(0o3770)
        own_folder.claim(folder, "run_dir", 0o700)
    assert sorted(os.listdir(folder)) == ["console.log", "holder.json", "qmp.sock"]
    assert mode(folder) == 0o700 and folder.stat().st_gid == os.getegid() and victim.read_text() == "root's own"


def prepared(path: Path, victim: Path) -> dict:
    return {
        "symlink": lambda: path.symlink_to(victim),
        "hard link": lambda: os.link(victim, path),
        "pipe": lambda: os.mkfifo(path),
        "writable": lambda: (path.write_text("root's own"), path.chmod(0o666)),
        "another user's": lambda: (path.write_text("root's own"), os.chown(path, ELSE, ELSE)),
    }


@AS_ROOT
@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "writable", "another user's"])
def test_nothing_that_somebody_prepared_is_read_or_written(tmp_path, kind):
    path, victim = tmp_path / "qemu.json", tmp_path / "victim"
    victim.write_text("root's own")
    prepared(path, victim)[kind]()
    with pytest.raises(OSError, match="not an ordinary file of this daemon's user|Too many levels of symbolic links"):
        own_folder.read(path, 100)
    own_folder.write(path, b"new")
    assert own_folder.read(path, 100) == b"new" and victim.read_text() == "root's own"


def test_a_file_is_read_up_to_a_limit(tmp_path):
    own_folder.write(tmp_path / "a", b"x" * 100)
    assert own_folder.read(tmp_path / "a", 10) == b"x" * 10 and mode(tmp_path / "a") == 0o600
