# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica says about itself: a dictionary, with one sentence a person understands."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import __version__
from .leader import BOOTING, FILLING, IN_SYNC, PROMOTING, Leader

if TYPE_CHECKING:
    from .consensus import Consensus
    from .director import Director

PROTECTED, DEGRADED, DOWN = "protected", "degraded", "down"
EXIT = {PROTECTED: 0, DEGRADED: 1, DOWN: 2}


def consensus_status(cons: Consensus) -> dict[str, Any]:
    return {"member": cons.me, "view": cons.view, "leader": cons.leader, "in_sync": sorted(cons.record.in_sync),
            "log_index": cons.commit_index}


def service_of(cons: Consensus, hears_leader: bool) -> str:
    """The group's state as far as a member that does not lead can tell."""
    if not cons.leader or not hears_leader:
        return DOWN
    return PROTECTED if len(cons.record.in_sync) > 1 else DEGRADED


def describe(core: Director) -> dict[str, Any]:
    out = consensus_status(core.consensus)
    role, sentence, service = _leader(core) if core.leading else _follower(core)
    out.update(name=core.config.name, role=role, service=service, sentence=sentence, syncvms=core.totals["syncvms"],
               totals=dict(core.totals), last_syncvm=_figures(core), dirty_tracking=core.config.syncvm_dirty_tracking,
               budget=core.config.budget._asdict(),
               versions={"plover": __version__, "qemu": core.facts.get("qemu_version", "")})
    return out


def _figures(core: Director) -> dict[str, Any] | None:
    f = core.figures
    return f and {"number": f.number, "pause_ms": f.pause_ms, "dirty_pages": f.dirty_pages,
                  "divergent_pages": f.divergent_pages, "same_page_percent": round(f.same_page_percent, 1),
                  "bytes": f.bytes}


def _leader(core: Director) -> tuple[str, str, str]:
    leader, peer = core.leading, core.leading.peer
    if leader.vm in (BOOTING, PROMOTING):
        return "leader", f"leading; the VM is {leader.vm}", DOWN
    if not leader.serving or not core.consensus.hears_quorum(core.now, core.config.peer_timeout_ms / 1000):
        return "leader", "leading, but no other member answers: output is held until one does", DOWN
    if leader.peer_state == IN_SYNC:
        return "leader", f"leading; {peer} is in sync and can take over at any moment", PROTECTED
    if leader.peer_state == FILLING and leader.fill:
        return "leader", f"leading without protection; filling {peer}: {leader.fill.phase} {leader.fill.percent} %", DEGRADED
    return "leader", f"leading without protection: {leader.peer_note}", DEGRADED


def _follower(core: Director) -> tuple[str, str, str]:
    cons, role = core.consensus, core.role
    heard = cons.leader in cons.last_heard and core.now - cons.last_heard[cons.leader] < core.config.peer_timeout_ms / 1000
    service = service_of(cons, heard)
    if isinstance(role, Leader):
        return "candidate", "deposed, keeping the VM stopped until a new leader's record is here", service
    if role.filled and heard:
        return "secondary", f"following {cons.leader}, log index {role.applied}; ready to take over", service
    if role.filled:
        return "candidate", "the leader is silent; standing for election", service
    if role.fill:
        return "joining", f"being filled by {cons.leader}", service
    if not heard and cons.record.version and core.config.member in cons.record.in_sync:
        return "idle", ("the VM's state is lost here and no leader is alive; if no other host holds it, "
                        "'ploverctl cold-start --yes' boots the VM afresh"), service
    if not heard:
        return "idle", "no leader is heard", service
    return "idle", (f"refused by {cons.leader}: {role.refused}" if role.refused else
                    f"asking {cons.leader} to be filled ({role.why})"), service
