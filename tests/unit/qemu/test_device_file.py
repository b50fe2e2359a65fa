# SPDX-License-Identifier: GPL-3.0-or-later
"""The device state that a QEMU wrote through its descriptor, or what it did in place of that."""

from __future__ import annotations

import os

import pytest
from plover.errors import QemuError
from plover.qemu.device_file import STATE_BYTES_MAX, DeviceFile


@pytest.fixture
def file():
    out = DeviceFile()
    yield out
    out.close()


def test_a_state_is_read_whole(file):
    file.forget()
    os.write(file.for_qemu, b"QEVM" + bytes(70_000))
    assert file.read() == b"QEVM" + bytes(70_000) == file.read()


def test_a_shorter_state_after_a_longer_one_is_itself(file):
    for size in (70_000, 10):
        file.forget()
        qemus = os.dup(file.for_qemu)  # QEMU has its own, and empties what it opens
        os.ftruncate(qemus, 0)
        os.write(qemus, b"x" * size)
        os.close(qemus)
        assert file.read() == b"x" * size


def test_a_file_without_end_is_refused(file):
    os.ftruncate(file.for_qemu, STATE_BYTES_MAX + 1)
    with pytest.raises(QemuError, match="is over"):
        file.read()
    os.ftruncate(file.for_qemu, 1 << 40)
    with pytest.raises(QemuError, match="is over"):
        file.read()


def test_the_state_of_the_last_syncvm_is_not_taken_for_this_ones(file):
    """Seen with the hostile QEMU: it said that it saved, and wrote nothing; old devices over new memory on the secondary."""
    os.write(file.for_qemu, b"of the last syncvm")
    file.forget()
    with pytest.raises(QemuError, match="wrote no device state"):
        file.read()


def test_qemus_descriptor_only_writes(file):
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(file.for_qemu, 1)
