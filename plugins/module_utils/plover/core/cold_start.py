# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl cold-start``: the VM's memory is lost on all hosts, and the operator has the VM booted afresh here. Pure.

Refused if this host's image is torn, or older than another host's. ``--force`` says what it costs to do it anyway.
"""

from __future__ import annotations

from .director_port import DirectorPort
from .disk_marks import why_torn


def refusal(core: DirectorPort, forced: bool = False) -> str | None:
    """Why the VM must not be booted from this host now, with the remedy; None if it may."""
    cons, torn = core.consensus, why_torn(core.marks)
    if core.leading or core.holds_state or hears_leader(core):
        return "refused: a leader or a copy of the VM's state exists"
    if cons.amnesia:
        return f"refused: {cons.forgotten(core.now)}"
    if forced:
        return None
    if _older(core):
        return (
            f"refused: the last state was on {sorted(cons.record.in_sync)}; run this there. If that host is gone for "
            "good, or its disk is torn: 'ploverctl cold-start --force' says what it costs here"
        )
    if torn:
        return f"refused: {torn}. {_instead(core)}"
    return None


def hears_leader(core: DirectorPort) -> bool:
    """Does another member lead? It must be heard: the member elected last may have lost the VM and lead no longer."""
    cons = core.consensus
    return cons.leader in cons.others and cons.hears_leader(core.now, core.config.peer_timeout_ms / 1000)


def _older(core: DirectorPort) -> bool:
    return bool(core.consensus.record.version) and core.config.member not in core.consensus.record.in_sync


def _instead(core: DirectorPort) -> str:
    other = next(m for m in core.config.replicas if m != core.config.member)
    return (
        f"Boot the VM on {other}, unless its status says that its disk is torn too: 'ploverctl cold-start --yes' there; "
        "if that is refused, 'ploverctl cold-start --force' there says the price. If no disk is whole, restore this one "
        "from a backup; 'ploverctl cold-start --force' here says what it costs to boot it as it is"
    )


def price(core: DirectorPort) -> list[str]:
    """What a forced cold start costs on this host, one sentence each."""
    torn, in_sync = why_torn(core.marks), sorted(core.consensus.record.in_sync)
    out = ["THE VM IS BOOTED AFRESH from this host's disks: what was in its memory is lost."]
    if torn:
        out.append(
            f"THE DISK IS DAMAGED, unless you have restored it since: {torn}. The guest may find its file systems or "
            "its data broken, at once or later. The other replica's disk is overwritten with it as soon as it joins."
        )
    if core.marks and not torn:
        out += [
            f"disks[{n}] here is {mark}. A higher view in the other replica's status means a newer disk."
            for n, mark in enumerate(core.marks)
        ]
    if _older(core):
        out.append(
            f"TIME GOES BACK: the last state was on {', '.join(in_sync)}. What was written to disk there since this "
            "host was last in sync is lost: its disk is overwritten as soon as it joins. Run 'ploverctl failover "
            "--force --yes' here as well, after this: no quorum elects a host that was not in sync."
        )
    return out


def not_off(core: DirectorPort) -> str | None:
    """Why ``ploverctl start`` has nothing to start here."""
    if core.consensus.record.off and not core.leading:
        return None
    return "refused: the VM is not off; 'ploverctl status' says what it is, and 'ploverctl cold-start' boots one whose state is lost"


def start(core: DirectorPort, forced: bool = False) -> str | None:
    """Boot the VM once this host is elected. Returns the reason if that is refused."""
    why_not = refusal(core, forced)
    if why_not is None:
        core.cold = True
        by_force = f", by force: {' '.join(price(core))}" if forced else ""
        core.report(f"the operator has the VM booted afresh here{by_force}")
    return why_not
