# SPDX-License-Identifier: GPL-3.0-or-later
"""Flushes of our own image that failed while the guest is not told, as QEMU stops the VM and repeats them. Sans-I/O.

QEMU does so at "no space left", for a flush as for a write. For a write that is right: it has the data still, and room may be
made. What a flush was to save has left QEMU long ago, and may be gone: the next flush proves nothing if it succeeds. (With
``cache: writeback`` none of that QEMU ever does again; with ``cache: none`` QEMU simply asks the disk once more.)

QEMU also flushes by itself at each stop of a VM, and tells no guest if that fails; its buffered images remember it all the same.

QEMU tells in two events, in either order, as it sends the one at most once a second: an image's flush failed; the VM was
stopped at an error. Both name the error in the same words.
"""

from __future__ import annotations

TOGETHER_S = 2.0  # the two events of one flush are no further apart


class UntoldFlush:
    """One for each QEMU."""

    def __init__(self) -> None:
        self._failed: tuple[float, str] | None = None
        self._stopped: tuple[float, str] | None = None
        self._told: tuple[float, str] | None = None

    def flush_failed(self, now: float, error: str) -> bool:
        """Was the VM stopped at it?"""
        self._failed = now, error
        return self._is_one()

    def guest_told(self, now: float, error: str) -> None:
        """Of an error, perhaps this one."""
        self._told = now, error

    def nobody_told(self, failed_at: float, error: str) -> bool:
        """TOGETHER_S after a flush failed: was the guest not told? Then it was one of QEMU's own, as at each stop."""
        return self._told is None or self._told[1] != error or self._told[0] < failed_at - TOGETHER_S

    def vm_stopped(self, now: float, error: str) -> bool:
        """Was it a flush that failed?"""
        self._stopped = now, error
        return self._is_one()

    def _is_one(self) -> bool:
        if self._failed is None or self._stopped is None:
            return False
        (failed_at, error), (stopped_at, reason) = self._failed, self._stopped
        return error == reason and abs(failed_at - stopped_at) <= TOGETHER_S
