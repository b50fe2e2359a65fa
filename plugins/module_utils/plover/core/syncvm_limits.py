# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a leader waits for a syncvm under way, and which side it gives up after that. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ..config.settings import Config
from ..syncvm.leader import LeaderSyncvm
from ..syncvm.phases import DISKS, LeaderPhase


class Overdue(NamedTuple):
    own_qemu: bool  # True: our QEMU is at fault; give it up, the secondary takes over. False: go on without the secondary
    why: str


def overdue(sync: LeaderSyncvm, config: Config, secondary: str, now: float) -> Overdue | None:
    """Which side has kept clients waiting longer than the settings allow, if any has."""
    running_s, budget_s = now - sync.started, config.failover_budget_ms / 1000
    over = f"syncvm {sync.number} for {config.failover_budget_ms} ms (failover_budget_ms)"
    if sync.phase == LeaderPhase.ORDERED:
        return None
    if sync.waits_for_own_qemu and running_s > budget_s:
        if config.disks and not sync.peer_stopped:
            # Our VM's stop waits for its writes, which wait for a secondary whose QEMU has not stopped either.
            return Overdue(False, f"{secondary} takes no disk writes: neither QEMU has stopped for {over}")
        # The secondary is well and holds the last syncvm: it takes over, as if our QEMU had died.
        return Overdue(True, f"QEMU has not answered in phase {sync.phase} of {over}")
    if sync.audit == DISKS and sync.phase in (LeaderPhase.LOAD, LeaderPhase.DONE):
        if running_s > config.join_timeout_ms / 1000:
            return Overdue(False, f"the audit of the disks took longer than {config.join_timeout_ms} ms (join_timeout_ms)")
    elif sync.waits_for_peer_qemu(now) > budget_s:
        return Overdue(False, f"{secondary}'s QEMU has not answered in phase {sync.phase} of {over}")
    elif running_s > config.syncvm_timeout_ms / 1000:
        return Overdue(False, f"syncvm {sync.number} hung in phase {sync.phase} for {config.syncvm_timeout_ms} ms (syncvm_timeout_ms)")
    return None
