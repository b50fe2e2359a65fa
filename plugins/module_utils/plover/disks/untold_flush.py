# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds failed flushes of our own image that the guest does not learn of. Sans-I/O.

At "no space left", QEMU stops the VM and repeats the write or flush later. That is right for a write: QEMU still has the
data, and somebody may make room. The data of a flush have left QEMU long ago and may be gone, so a later flush that succeeds
proves nothing. (With ``cache: writeback`` no later flush of that QEMU succeeds; with ``cache: none`` QEMU just asks the disk
again.)

QEMU also flushes by itself at each stop of a VM, and does not tell the guest if that fails. Buffered images remember it all
the same.

QEMU reports a stop at a flush in two events, in either order, as it sends the first kind at most once a second: an image's
flush failed; the VM was stopped at an error. Both contain the same error text.
"""

from __future__ import annotations

TOGETHER_S = 2.0  # most time between the two events of one flush


class UntoldFlush:
    """One for each QEMU."""

    def __init__(self) -> None:
        self._failed: tuple[float, str] | None = None
        self._stopped: tuple[float, str] | None = None
        self._told: tuple[float, str] | None = None

    def flush_failed(self, now: float, error: str) -> bool:
        """Was the VM stopped at this flush?"""
        self._failed = now, error
        return self._is_one()

    def guest_told(self, now: float, error: str) -> None:
        """The guest was told of an error, perhaps that of a flush."""
        self._told = now, error

    def nobody_told(self, failed_at: float, error: str) -> bool:
        """Asked TOGETHER_S after a flush failed. True: the guest was not told; the flush was QEMU's own, as at each stop."""
        return self._told is None or self._told[1] != error or self._told[0] < failed_at - TOGETHER_S

    def vm_stopped(self, now: float, error: str) -> bool:
        """Was it stopped at a flush?"""
        self._stopped = now, error
        return self._is_one()

    def _is_one(self) -> bool:
        if self._failed is None or self._stopped is None:
            return False
        (failed_at, error), (stopped_at, reason) = self._failed, self._stopped
        return error == reason and abs(failed_at - stopped_at) <= TOGETHER_S
