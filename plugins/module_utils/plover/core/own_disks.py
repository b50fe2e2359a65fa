# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader knows of its own host's images: do they have all that its VM wrote? Sans-I/O.

They do not while the overlays of a failover are merged into them, and never again once a write failed that QEMU told the
guest was done. No new secondary is filled from such an image.
"""

from __future__ import annotations

from ..ports import effects

AGAIN_S, AGAIN_S_MAX = 1.0, 60.0
CALM_S = 5.0  # without an error for so long, the VM no longer waits for its disk


class OwnDisks:
    def __init__(self, merging: bool) -> None:
        """``merging``: overlays may be there, until we are told that they are not."""
        self.merging = merging
        self.merge_error = ""  # why the merge does not go on
        self.tries = 0  # of ours to merge again
        self.lost = ""  # the error of a write that the guest took for done: this VM must not run on
        self.waits = ""  # the error at which QEMU stopped the VM, until there is room
        self._again_at: float | None = None
        self._waited_at = 0.0

    def tick(self, now: float) -> list[effects.MergeDisks | effects.Report]:
        out: list[effects.MergeDisks | effects.Report] = [effects.MergeDisks()] if self.merge_again(now) else []
        return out + ([effects.Report("the VM goes on: no more errors of its disk")] if self.calm(now) else [])

    def merged(self) -> list[effects.Report]:
        """What the VM wrote before a failover is in the images, or there was no failover."""
        merging, self.merging, self.merge_error, self._again_at = self.merging, False, "", None
        return [effects.Report("the disks are whole: what the VM wrote before the failover is in them")] if merging else []

    def merge_failed(self, now: float, error: str) -> list[effects.Report]:
        """It does not go on, until MergeDisks."""
        self.merging, self.merge_error = True, error
        self._again_at = now + min(AGAIN_S_MAX, AGAIN_S * 2 ** min(self.tries, 10))
        return [effects.Report(f"the disks are not merged after the failover, and no secondary can be filled: {error}")]

    def merge_again(self, now: float) -> bool:
        """Is it time to?"""
        if self._again_at is None or now < self._again_at:
            return False
        self._again_at, self.tries = None, self.tries + 1
        return True

    def vm_waits(self, now: float, error: str) -> None:
        self.waits, self._waited_at = error, now

    def calm(self, now: float) -> bool:
        """Does the VM go on, after it has waited?"""
        if not self.waits or now - self._waited_at < CALM_S:
            return False
        self.waits = ""
        return True

    def describe(self) -> dict[str, str]:
        """For the status."""
        if self.lost:
            return {"state": "lost a write", "error": self.lost}
        if self.merging:
            return {"state": "not merged" if self.merge_error else "merging", "error": self.merge_error}
        return {"state": "waits" if self.waits else "whole", "error": self.waits}

    @property
    def sentence(self) -> str:
        """Why no secondary can be filled from these images; empty if one can."""
        if self.merge_error:
            return f"its disks are not merged after the failover ({self.merge_error}; tried again {self.tries} times)"
        return "its disks are being merged after the failover" if self.merging else ""
