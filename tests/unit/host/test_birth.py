# SPDX-License-Identifier: GPL-3.0-or-later
"""A state folder that came back from a backup: it is noticed, whatever brought it back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from plover.consensus.durable import Durable, Record
from plover.host import birth
from plover.host.store import BIRTH, Store

# What people do to put files back: all but the last keep the times, the last keeps the file that is there.
PUT_BACK = ["cp -r {0} {1}", "cp -a {0} {1}", "tar -C {0} -cf - . | (mkdir {1} && tar -C {1} -xf -)"]
PUT_BACK += ["tar --xattrs --xattrs-include='*' -C {0} -cf - . | (mkdir {1} && tar --xattrs --xattrs-include='*' -C {1} -xf -)"]


OLD = Durable(3, "primary", Record(3, 1, frozenset({"primary"})))
NEW = Durable(4, "secondary", Record(4, 1, frozenset({"secondary"})))


def of_earlier_version(state: Durable) -> str:
    """A state.json as versions wrote it that knew nothing of births."""
    record = {"view": state.record.view, "version": state.record.version, "in_sync": sorted(state.record.in_sync)}
    body = json.dumps({"view": state.view, "voted_for": state.voted_for, "record": record})
    return f"{body}\n{zlib.crc32(body.encode()):08x}\n"


def with_births(folder: Path) -> None:
    """pytest's folder may be on a file system that does not tell birth times; then nothing can be noticed."""
    (folder / "probe").touch()
    if not birth.sign(folder / "probe"):
        pytest.skip(f"{folder} is on a file system without birth times or extended attributes")


@pytest.mark.parametrize("command", PUT_BACK)
def test_a_folder_that_came_back_from_a_backup_has_forgotten_what_came_after_it(tmp_path, command):
    with_births(tmp_path)
    folder, backup = tmp_path / "state", tmp_path / "backup"
    store = Store(folder, member="witness")
    store.save(Durable(3, "primary", Record(3, 1, frozenset({"primary"}))))
    assert store.begin() is not None
    subprocess.run(["cp", "-a", folder, backup], check=True)
    store.save(Durable(4, "secondary", Record(4, 1, frozenset({"secondary"}))))
    shutil.rmtree(folder)
    subprocess.run(command.format(backup, folder), shell=True, check=True)
    again = Store(folder, member="witness")
    assert again.load().view == 3 and again.begin() is None and again.is_copy
    assert Store(folder, member="witness").begin() is None, "as long as it has not recovered"
    again.save(Durable(4, "secondary", Record(4, 2, frozenset({"secondary"}))))
    assert not again.is_copy and Store(folder, member="witness").begin().view == 4


@pytest.mark.parametrize("command", ["cp {0}/state.json {1}", "cp -a {0}/state.json {1}", "cp {0}/state.json {0}/member {1}"])
def test_a_state_file_alone_in_a_new_folder_is_a_copy(tmp_path, command):
    with_births(tmp_path)
    folder, backup = tmp_path / "state", tmp_path / "backup"
    store = Store(folder, member="witness")
    store.save(OLD)
    assert store.begin() == OLD
    shutil.copytree(folder, backup)
    store.save(NEW)
    shutil.rmtree(folder)
    folder.mkdir()
    subprocess.run(command.format(backup, folder), shell=True, check=True)
    assert Store(folder, member="witness").begin() is None
    assert not (folder / BIRTH).exists(), "the state's own text tells, no file beside it"


def test_a_state_of_before_the_upgrade_put_back_is_a_copy(tmp_path):
    with_births(tmp_path)
    (tmp_path / "state.json").write_text(of_earlier_version(OLD))
    store = Store(tmp_path)
    assert store.begin() == OLD
    store.save(NEW)
    (tmp_path / "state.json").unlink()
    (tmp_path / "state.json").write_text(of_earlier_version(OLD))
    assert Store(tmp_path).begin() is None


def test_a_file_written_over_in_place_is_a_copy(tmp_path):
    with_births(tmp_path)
    store = Store(tmp_path)
    store.save(Durable(3, None, Record()))
    old = (tmp_path / "state.json").read_text()
    store.save(Durable(4, None, Record()))
    (tmp_path / "state.json").write_text(old)
    assert Store(tmp_path).begin() is None


def test_a_state_of_an_earlier_version_counts_and_names_its_birth_from_then_on(tmp_path):
    with_births(tmp_path)
    (tmp_path / "state.json").write_text(of_earlier_version(OLD))
    assert Store(tmp_path).begin() == OLD
    assert birth.is_signed(tmp_path / "state.json") and (tmp_path / BIRTH).exists()


@pytest.mark.parametrize("error", birth.CANNOT)
def test_a_file_system_that_cannot_tell_is_not_asked_again(tmp_path, monkeypatch, error):
    store = Store(tmp_path)
    store.save(Durable(3, None, Record()))

    def cannot(*_args: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "setxattr", cannot)
    store.save(Durable(4, None, Record()))
    assert not (tmp_path / BIRTH).exists() and Store(tmp_path).begin().view == 4
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "state.json", copy)
    assert Store(copy).begin().view == 4, "a file that could never name its birth counts wherever it is"
