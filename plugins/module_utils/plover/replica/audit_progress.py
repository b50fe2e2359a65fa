# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an audit is, on the leader's host. `ploverctl audit` shows it on a terminal while it waits for the answer."""

from __future__ import annotations

from typing import Any

from ..ports import effects
from ..syncvm.initial_sync import copied
from ..syncvm.leader import LeaderSyncvm
from ..syncvm.phases import DISKS
from ..syncvm.phases import LeaderPhase as Phase

HASHES = (Phase.HASH, Phase.COMPARE)
LOADS = (Phase.LOAD, Phase.DONE)
WORDS = {
    Phase.WAIT_AUDIT: "the other host compares all memory a second time",
    Phase.LOAD: "the other host loads the VM's state",
    **dict.fromkeys((Phase.STAGE, Phase.PACK, Phase.WAIT_STAGED), "sending the pages that differ"),
}


class Hashing:
    """Bytes of memory or of the disks that this host has hashed for one syncvm. Its thread counts, the daemon's loop reads."""

    def __init__(self, tag: effects.Tag, total: int, now: float) -> None:
        self.tag, self.total, self.began, self.done = tag, total, now, 0

    def count(self, size: int) -> None:
        self.done += size


def describe(syncvm: LeaderSyncvm | None, memory: Hashing | None, disks: Hashing | None, now: float) -> dict[str, Any] | None:
    """For the status; None unless an audit is under way on this leader. ``percent`` is that of the present part, 0 if unknown."""
    if syncvm is None or not syncvm.audit:
        return None
    phase, what, part = syncvm.phase, "", None
    if phase in HASHES:
        what, part = "memory", memory
    elif phase in LOADS and syncvm.audit == DISKS:
        what, part = "disks", disks
    if part is None or part.tag != syncvm.tag:
        return {"phase": str(phase), "percent": 0, "bytes": 0, "bytes_total": 0, "sentence": WORDS.get(phase, "stopping both VMs")}
    percent = 100 * part.done // max(1, part.total)
    over = part.done >= part.total
    sentence = f"{what}: waiting for the other host" if over else f"{what} {percent} %{copied(part.done, part.total, now - part.began)}"
    return {"phase": str(phase), "percent": percent, "bytes": part.done, "bytes_total": part.total, "sentence": sentence}
