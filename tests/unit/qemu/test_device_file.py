# SPDX-License-Identifier: GPL-3.0-or-later
"""The device state that a QEMU wrote, or what it put there in its place."""

from __future__ import annotations

import os

import pytest
from plover.errors import QemuError
from plover.qemu import device_file


def test_a_state_is_read_whole(tmp_path):
    (tmp_path / "state").write_bytes(b"QEVM" + bytes(70_000))
    assert device_file.read(tmp_path / "state") == b"QEVM" + bytes(70_000)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("of the host's")
    (tmp_path / "state").symlink_to(tmp_path / "secret")
    with pytest.raises(QemuError, match="no device state that can be read"):
        device_file.read(tmp_path / "state")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "state")
    with pytest.raises(QemuError, match="is not an ordinary file"):
        device_file.read(tmp_path / "state")


def test_a_file_without_end_is_refused(tmp_path):
    with open(tmp_path / "state", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(QemuError, match="is over"):
        device_file.read(tmp_path / "state")


def test_nothing_there_is_an_error_of_qemus(tmp_path):
    with pytest.raises(QemuError, match="no device state"):
        device_file.read(tmp_path / "state")


def test_the_state_of_the_last_syncvm_is_not_taken_for_this_ones(tmp_path):
    """Seen with the hostile QEMU: it said that it saved, and wrote nothing; old devices over new memory on the secondary."""
    (tmp_path / "state").write_bytes(b"of the last syncvm")
    device_file.forget(tmp_path / "state")
    with pytest.raises(QemuError, match="wrote no device state"):
        device_file.read(tmp_path / "state")
    device_file.forget(tmp_path / "state")  # nothing there is right as well
    (tmp_path / "state").mkdir()
    with pytest.raises(QemuError, match="cannot be replaced"):
        device_file.forget(tmp_path / "state")
