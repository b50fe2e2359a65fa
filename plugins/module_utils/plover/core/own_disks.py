# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader knows of its own host's images: do they hold everything that its VM wrote? Sans-I/O.

Not while the overlays of a failover are being merged into them. And never again once a write failed that QEMU had reported
to the guest as done. No new secondary is filled from such an image.
"""

from __future__ import annotations

from ..ports import effects

AGAIN_S, AGAIN_S_MAX = 1.0, 60.0
CALM_S = 5.0  # after this long without an error, the VM no longer waits for its disk


class OwnDisks:
    def __init__(self, merging: bool) -> None:
        """``merging``: there may be overlays, until the shell says that there are none."""
        self.merging = merging
        self.merge_error = ""  # why the merge stopped
        self.tries = 0  # how often we continued the merge
        self.lost = ""  # the error of a write that the guest believes is done: this VM must not run on
        self.waits = ""  # the error at which QEMU stopped the VM, which waits until there is room
        self._again_at: float | None = None
        self._waited_at = 0.0

    def tick(self, now: float) -> list[effects.MergeDisks | effects.Report]:
        out: list[effects.MergeDisks | effects.Report] = [effects.MergeDisks()] if self.merge_again(now) else []
        return out + ([effects.Report("the VM goes on: no more errors of its disk")] if self.calm(now) else [])

    def merged(self) -> list[effects.Report]:
        """The VM's writes from before the failover are in the images, or there was no failover."""
        merging, self.merging, self.merge_error, self._again_at = self.merging, False, "", None
        return [effects.Report("the disks are whole: what the VM wrote before the failover is in them")] if merging else []

    def merge_failed(self, now: float, error: str) -> list[effects.Report]:
        """The merge stopped, until MergeDisks."""
        self.merging, self.merge_error = True, error
        self._again_at = now + min(AGAIN_S_MAX, AGAIN_S * 2 ** min(self.tries, 10))
        return [effects.Report(f"the disks are not merged after the failover, and no secondary can be filled: {error}")]

    def merge_again(self, now: float) -> bool:
        """Is it time to continue the merge?"""
        if self._again_at is None or now < self._again_at:
            return False
        self._again_at, self.tries = None, self.tries + 1
        return True

    def vm_waits(self, now: float, error: str) -> None:
        self.waits, self._waited_at = error, now

    def calm(self, now: float) -> bool:
        """Did the VM wait for its disk, and goes on now?"""
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
