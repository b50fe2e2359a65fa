# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that QEMU saves its device state to: one without a name, in memory, of which QEMU holds a descriptor.

There is nothing that QEMU could put in its place. QEMU may write to it at any time, so it is read once, up to a limit.
"""

from __future__ import annotations

import os

from ..errors import QemuError

STATE_BYTES_MAX = 48 << 20


class DeviceFile:
    def __init__(self) -> None:
        self._fd = os.memfd_create("plover-device-state", os.MFD_CLOEXEC)
        self.for_qemu = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_CLOEXEC)  # it wants one that only writes

    def forget(self) -> None:
        """Before a save: if QEMU writes nothing, the old state must not pass for the new one."""
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self.for_qemu, 0, os.SEEK_SET)  # QEMU's descriptor has the same place
        except OSError as error:
            raise QemuError(f"the file of QEMU's device state cannot be emptied: {error.strerror}") from error

    def read(self) -> bytes:
        """What QEMU has saved. Raises QemuError."""
        try:
            os.lseek(self._fd, 0, os.SEEK_SET)
            with open(self._fd, "rb", closefd=False) as file:
                out = file.read(STATE_BYTES_MAX + 1)
        except OSError as error:
            raise QemuError(f"QEMU's device state cannot be read: {error.strerror}") from error
        if len(out) > STATE_BYTES_MAX:
            raise QemuError(f"QEMU's device state is over {STATE_BYTES_MAX} bytes")
        if not out:
            raise QemuError("QEMU wrote no device state")
        return out

    def close(self) -> None:
        for fd in (self._fd, self.for_qemu):
            os.close(fd)
