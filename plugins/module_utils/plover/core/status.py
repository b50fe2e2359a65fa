# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a replica: a dictionary, with one sentence for the operator."""

from __future__ import annotations

from typing import Any, Protocol

from .. import __version__
from ..config.panics import STOP
from ..consensus.consensus import Consensus
from ..syncvm.figures import Figures
from . import crash, join_request
from .counters import Counters
from .director_port import DirectorPort
from .disk_marks import why_torn
from .event_log import EventLog
from .follower import Follower
from .leader import BOOTING, PROMOTING, RUNNING, Leader

PROTECTED, DEGRADED, DOWN, OFF = "protected", "degraded", "down", "off"
FORCED = "forced"  # a mode of its own in the event log; in status the service is degraded
LIMITS = ("latency_ms_target", "guard_bytes_max", "log_bytes_max")  # settings that figures are compared with
EXIT = {PROTECTED: 0, OFF: 0, DEGRADED: 1, DOWN: 2}  # an off VM is as its guest wanted it


class Reported(DirectorPort, Protocol):
    """What the status reads of the director."""

    counters: Counters

    @property
    def role(self) -> Leader | Follower: ...

    @property
    def leading(self) -> Leader | None: ...

    @property
    def figures(self) -> Figures | None:
        """The figures of the last syncvm."""


def consensus_status(cons: Consensus) -> dict[str, Any]:
    return {
        "member": cons.me,
        "members": sorted((cons.me, *cons.others)),
        "view": cons.view,
        "leader": cons.leader,
        "in_sync": sorted(cons.record.in_sync),
        "log_index": cons.commit_index,
        "log_bytes": cons.log.bytes,
        "forced": cons.alone,
        "doubted": cons.votes.hearsay.describe(),
    }


def service_of(cons: Consensus, hears_leader: bool) -> str:
    """The group's state, as far as a member that does not lead can tell."""
    if cons.record.off:  # who has just been elected to boot the VM has not recorded itself yet
        return OFF
    if not cons.leader or not hears_leader:
        return DOWN
    return PROTECTED if len(cons.record.in_sync) > 1 else DEGRADED


def service(core: Reported) -> str:
    """The group's state as this replica sees it; asked for at every tick."""
    leader, cons = core.leading, core.consensus
    if leader is None:
        return service_of(cons, _heard(core))
    if leader.power.off and not leader.power.again:
        return OFF
    # tap_up, not serving: while a new in-sync record is on its way to the others, clients wait only a moment.
    if leader.vm != RUNNING or not leader.tap_up or not cons.hears_quorum(core.now, core.config.peer_timeout_ms / 1000):
        return DOWN
    if leader.own.waits or leader.own.lost:
        return DOWN
    return PROTECTED if leader.protected else DEGRADED


def sentence_of_off(cons: Consensus, on_crash: str) -> str:
    why = "the guest has powered the VM off" + (", or has panicked" if on_crash == STOP else "")
    return f"{why}; 'ploverctl start' on {' or '.join(sorted(cons.record.in_sync))} boots it"


def mode_of(core: Reported) -> str:
    """The service, for the event log; a forced leader has a mode of its own."""
    return FORCED if core.consensus.alone else service(core)


def reason(core: Reported) -> str:
    """Why the service is what it is."""
    if core.leading and service(core) == DEGRADED and not core.consensus.alone:
        return core.leading.own.sentence or core.leading.reprotection.note
    if core.leading:
        return _leader(core, core.leading)[1]
    return as_heard(core.consensus, service(core), _follower(core)[1])


def as_heard(cons: Consensus, service: str, sentence: str) -> str:
    """The reason, as far as a member that does not lead knows it."""
    in_sync = ", ".join(cons.record.in_sync)  # empty until the record arrives, which is later than the first heartbeat
    return f"only {in_sync} holds the VM's state" if service == DEGRADED and in_sync else sentence


def role_of(core: Reported) -> str:
    """This replica's role, in one word."""
    return (_leader(core, core.leading) if core.leading else _follower(core))[0]


def mode(event_log: EventLog, now: float) -> dict[str, Any]:
    """For how many seconds the mode has lasted; why, unless it is protected; and how often a view began, by cause."""
    return {
        "since": round(now - event_log.mode_since, 3),
        "reason": "" if event_log.mode == PROTECTED else event_log.reason,
        "views": dict(event_log.views),
    }


def _colo_loop(core: Reported) -> dict[str, str]:
    """The dialect of this host's QEMU, if that has been a secondary's."""
    found = core.facts.get(join_request.COLO_LOOP)
    return {"colo_loop": found} if found else {}


def describe(core: Reported) -> dict[str, Any]:
    out = consensus_status(core.consensus)
    role, sentence = _leader(core, core.leading) if core.leading else _follower(core)
    state = service(core)
    out.update(
        name=core.config.name,
        role=role,
        service=state,
        sentence=sentence,
        **mode(core.event_log, core.now),
        syncvms=core.counters.totals["syncvms"],
        totals=dict(core.counters.totals),
        counters=core.counters.describe(core.now),
        **core.guest_clock.describe(),
        held=_held(core),
        fill=core.leading.fill.describe() if core.leading and core.leading.fill else None,
        last_syncvm=core.figures and status_of_syncvm(core.figures),
        dirty_tracking=core.config.syncvm_dirty_tracking,
        fill_pages_mismatching=core.fill_pages_mismatching,
        scrub=core.scrub.describe(),
        budget=core.config.budget._asdict(),
        limits={key: core.config.values[key] for key in LIMITS},
        fencing={"views": "always", "agent": _agent(core)},
        output_release=core.config.output_release,
        **core.drills.describe(),
        versions={
            "plover": __version__,
            "qemu": core.facts.get("qemu_version", ""),
            "machine": core.facts.get("machine_type", ""),
            "accel": core.config.guest_accel,
            **_colo_loop(core),
        },
    )
    if core.marks:
        out["disks"] = [
            {"path": disk.path, "state": mark.state, "view": mark.view, "torn": mark.torn, "mark": str(mark)}
            for disk, mark in zip(core.config.disk_list, core.marks)
        ]
    if core.leading:
        out["output"] = core.leading.output_commit.agreed.describe()
        since = core.leading.power.crash.since
        out["guest"] = {"panicked_s": None if since is None else round(core.now - since, 3), "follows": core.leading.power.crash.follows}
    if core.leading and core.config.disks:
        out["disk_state"] = core.leading.own.describe()
    if state != PROTECTED:
        out["reason"] = reason(core)  # of this moment: it may have changed since the mode did
    return out


def _held(core: Reported) -> dict[str, Any]:
    """The VM's output that waits here."""
    since = core.role.guard.held_since
    return {"bytes": core.role.guard.bytes, "age_s": 0.0 if since is None else round(core.now - since, 3)}


def _agent(core: Reported) -> str:
    fencing = core.role.fencing if isinstance(core.role, Leader) else None
    return fencing.describe() if fencing else core.config.fence_policy


def status_of_syncvm(f: Figures) -> dict[str, Any]:
    return {
        "number": f.number,
        "pause_ms": f.pause_ms,
        "dirty_pages": f.dirty_pages,
        "divergent_pages": f.divergent_pages,
        "same_page_percent": round(f.same_page_percent, 1),
        "bytes": f.bytes,
        "sent_bytes": dict(f.sent),
    }


def _leader(core: Reported, leader: Leader) -> tuple[str, str]:
    secondary = leader.secondary
    if leader.vm in (BOOTING, PROMOTING):
        return "leader", f"leading; the VM is {leader.vm}"
    if leader.fencing and leader.fencing.blocks:
        return "leader", f"elected, but not serving: {leader.fencing.describe()}"
    if core.consensus.alone:
        return "leader", (
            f"leading alone by force: no other member has acknowledged view {core.consensus.view}; bring one "
            "back, with its own state or none"
        )
    if leader.power.again:
        return "leader", f"leading; {leader.power.why}, and boots again"
    if leader.power.off:
        return "leader", f"leading; {leader.power.why}, which is being recorded"
    if leader.own.waits or leader.own.lost:
        error = leader.own.waits or leader.own.lost
        return "leader", f"leading, but the VM stands still: its disk has an error on this host: {error}"
    if service(core) == DOWN:
        forgetful = core.consensus.forgot(core.now)
        if len(forgetful) == len(core.consensus.others):
            return "leader", (
                f"leading, but {' and '.join(forgetful)} have forgotten what they promised, so output is held; "
                "'ploverctl failover --force' here lets them follow"
            )
        return "leader", "leading, but no other member answers: output is held until one does"
    if leader.protected:
        pages = leader.reprotection.pages_mended
        mended = f"; its initial sync found and mended {pages} pages that differed" if pages else ""
        but = f", but {core.scrub.sentence}" if core.scrub.sentence else ""
        return "leader", f"leading; {secondary} is in sync and can take over at any moment{mended}{but}{_panicked(leader)}"
    if leader.fill:
        return "leader", f"leading without protection; filling {secondary}: {leader.fill.progress}{_panicked(leader)}"
    return "leader", f"leading without protection: {leader.own.sentence or leader.reprotection.note}{_panicked(leader)}"


def _panicked(leader: Leader) -> str:
    return "" if leader.power.crash.since is None else f"; but {crash.WHY} ({leader.power.crash.follows})"


def _heard(core: Reported) -> bool:
    """Is there a leader that speaks to us?"""
    cons = core.consensus
    return cons.leader in cons.last_heard and cons.hears(cons.leader, core.now, core.config.peer_timeout_ms / 1000)


def _follower(core: Reported) -> tuple[str, str]:
    cons, role, heard = core.consensus, core.role, _heard(core)
    if cons.amnesia:
        return "idle", cons.forgotten(core.now)
    if isinstance(role, Leader):
        return "candidate", "deposed, keeping the VM stopped until a new leader's record is here"
    if role.filled and heard:
        return "secondary", f"following {cons.leader}, log index {role.applied}; ready to take over"
    if role.filled:
        return "candidate", ("the leader is silent; standing for election (are the others gone for good? see 'ploverctl failover')")
    if role.fill:
        return "joining", f"being filled by {cons.leader}"
    if not heard and core.now - core.began < core.config.peer_timeout_ms / 1000:
        return "idle", "just started; listening for a leader"
    if not heard and cons.record.off and not core.cold:
        return "idle", sentence_of_off(cons, core.config.on_crash)
    torn = why_torn(core.marks)
    if not heard and core.cold:
        return "idle", (
            "asked to boot the VM afresh, and not elected yet: another member must be up and agree. If one is "
            "up, another host was in sync last: boot it there; if you cannot, see 'ploverctl failover --force'"
        )
    if not heard and torn and (core.config.member in cons.record.in_sync or not cons.record.version):
        return "idle", (
            f"no leader is alive, and the VM must not be booted from here: {torn}. If no host holds its state, "
            "boot it from another disk, or restore this one; 'ploverctl cold-start --force' says the price"
        )
    if not heard and cons.record.version and core.config.member in cons.record.in_sync:
        return "idle", (
            "the VM's state is lost here and no leader is alive; if no other host holds it, "
            "'ploverctl cold-start --yes' boots the VM afresh"
        )
    if not heard:
        return "idle", "no leader is heard"
    return "idle", (f"refused by {cons.leader}: {role.refused}" if role.refused else f"asking {cons.leader} to be filled ({role.why})")
