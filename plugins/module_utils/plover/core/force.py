# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl failover --force``: the operator decides what no quorum can decide any more. Pure.

When it is refused, what it costs on this host, and the decision itself. The mechanism is :meth:`Consensus.force_lead`.
"""

from __future__ import annotations

from ..consensus.effects import LEADER
from ..errors import InvariantViolation
from . import cold_start
from .director_port import DirectorPort


def refusal(core: DirectorPort) -> str | None:
    """Why this host must not be forced to lead now, with the remedy; None if it may."""
    cons, config = core.consensus, core.config
    if cons.alone:
        return f"this host leads alone already, by force, in view {cons.view}"
    if cons.role == LEADER:
        if cons.hears_quorum(core.now, config.peer_timeout_ms / 1000):
            return "this host leads and another member answers: nothing to force. Planned work: 'ploverctl switchover'"
    else:
        silent_ms = 1000 * (core.now - cons.silent_since)
        if cons.leader and cons.hears_leader(core.now, config.peer_timeout_ms / 1000):
            return f"{cons.leader} leads and is heard; to move the VM here run 'ploverctl switchover' there"
        if silent_ms < config.failover_budget_ms:
            return (
                f"no leader has been heard for {silent_ms:.0f} ms only: an ordinary failover may be under way; wait "
                f"{config.failover_budget_ms} ms (failover_budget_ms)"
            )
    if not core.holds_state and not core.cold:
        return (
            "this host does not hold the VM's state, there is nothing to go on from; run this on the other replica. If "
            "no host holds it any more: 'ploverctl cold-start --yes' first, it boots the VM afresh"
        )
    return None


def price(core: DirectorPort) -> list[str]:
    """What forcing this host costs or may cost, one sentence each, from what this host knows."""
    heard = "; ".join(_heard(core, other) for other in core.consensus.others)
    forgotten = (
        [
            "This host has forgotten what it promised: its state folder was empty. It may have voted for a leader that "
            "it does not know any more."
        ]
        if core.consensus.amnesia
        else []
    )
    return [
        *forgotten,
        f"Split brain: {heard}. If one of them leads and is only cut off from here, the VM runs and answers twice, until "
        "they hear each other. Then that copy is thrown away, with all that its clients were told since. Make sure "
        "that both hosts are off.",
        _what_is_lost(core),
        "Until another member has acknowledged the new view (status: forced), no other knows what this host tells "
        "clients. If the others come back without it, they go on from their own state, and this is lost.",
    ]


def _what_is_lost(core: DirectorPort) -> str:
    cons, me = core.consensus, core.config.member
    in_sync, lost = cons.record.in_sync, "All that clients were told after this host's last syncvm is lost"
    answers = any(cons.hears(other, core.now, core.config.peer_timeout_ms / 1000) for other in cons.others)
    if core.cold and not core.holds_state:
        doubt = "TIME MAY GO BACK: another member answers and yet does not elect this host, so another host's disk is most likely newer."
        return " ".join([*cold_start.price(core), *([doubt] if answers and me in in_sync else [])])
    if in_sync and me not in in_sync:
        return f"TIME GOES BACK: this host is not in the recorded in-sync set ({', '.join(sorted(in_sync))}). {lost}."
    if cons.role == LEADER or in_sync == {me}:
        return "Nothing that clients were told is lost, as far as this host knows: it led last, or was alone in sync."
    if answers:
        return (
            "TIME MAY GO BACK: another member answers and yet does not elect this host, so it most likely knows that "
            f"the last leader went on without it. {lost} then."
        )
    silent_s = core.now - cons.silent_since
    return (
        f"Time may go back: this host was in sync when it last heard the leader, {silent_s:.0f} s ago. If "
        "the leader went on without this host after that, what it told clients since is lost."
    )


def _heard(core: DirectorPort, other: str) -> str:
    ago = core.now - core.consensus.last_heard[other]
    return f"{other} was heard {ago:.0f} s ago" if ago < 1e9 else f"{other} was never heard since this daemon started"


def force(core: DirectorPort) -> str | None:
    """Lead now, alone. Returns the reason if that is refused."""
    why_not = refusal(core)
    if why_not:
        return why_not
    before = core.consensus.view
    core.report(f"forced by the operator to lead without a quorum, after view {before}")
    core.consensus.force_lead(core.now)
    if core.consensus.view <= before:
        raise InvariantViolation(f"forced from view {before} into {core.consensus.view}")
    return None
