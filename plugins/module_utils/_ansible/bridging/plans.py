# SPDX-License-Identifier: GPL-3.0-or-later
"""Which manager manages the card, and the plan for it. Pure: from Facts to a Plan, or a Refusal."""

from __future__ import annotations

from . import ifupdown, netplan, networkd, networkmanager, own, routes
from .model import Refusal

# netplan first, as the next two may be its renderers. The last takes a card that no manager has.
MANAGERS = (netplan, networkmanager, networkd, ifupdown, own)
NAMES = tuple(manager.NAME for manager in MANAGERS)


def choose(facts, named="auto"):
    """The manager of the member; a manager that the user names must be installed."""
    if named == "auto":
        return next(manager for manager in MANAGERS if manager.manages(facts))
    manager = next(m for m in MANAGERS if m.NAME == named)
    if manager is not own and named not in facts.tools:
        raise Refusal(
            "plover_bridge_manager: {} does not run on this host; it has {}; name one of them, or auto".format(
                named, ", ".join(facts.tools) or "none"
            )
        )
    busy = next((m for m in (networkmanager, networkd) if manager is own and m.manages(facts)), None)
    if busy:
        raise Refusal(
            f"plover_bridge_manager: {busy.NAME} has {facts.member} and would take it out of the bridge again; "
            f"name {busy.NAME}, or auto, or tell it to leave the card alone"
        )
    return manager


def stands(facts):
    """Whether the bridge exists with the member in it, and the member has no addresses of its own."""
    there = facts.links.get(facts.bridge, {}).get("bridge", False)
    return bool(there and facts.master == facts.bridge and not facts.addresses.get(facts.member))


def join(facts, named="auto"):
    """The plan that puts the member into the bridge; None if there is nothing to do."""
    if not facts.member and facts.links.get(facts.bridge, {}).get("bridge"):
        return None
    if not facts.member:
        raise Refusal(
            f"plover_bridge_member: is missing, and there is no bridge {facts.bridge} on this host; name the card "
            "that the VMs' clients are behind"
        )
    if facts.member not in facts.links:
        raise Refusal(
            "plover_bridge_member: there is no card {} on this host; it has {}".format(
                facts.member, ", ".join(sorted(n for n in facts.links if n != "lo" and not facts.links[n].get("bridge")))
            )
        )
    if facts.member == facts.bridge or facts.links[facts.member].get("bridge"):
        raise Refusal(f"plover_bridge_member: {facts.member} is itself a bridge; name the card in it")
    if facts.bridge in facts.links and not facts.links[facts.bridge].get("bridge"):
        raise Refusal(f"plover_bridge_name: {facts.bridge} is there and no bridge; choose another name")
    if facts.master not in ("", facts.bridge):
        raise Refusal(
            f"plover_bridge_member: {facts.member} is in {facts.master} already; take it out of it, or set "
            f"plover_bridge_name: {facts.master}"
        )
    made = facts.made
    ours = made.get("member") == facts.member and named in ("auto", made.get("manager"))
    if not made and own.before_0_2(facts):
        return own.join(facts)
    if stands(facts) and (not made or (ours and all(path in facts.files for path in made.get("files", [])))):
        return None  # without a note of ours it is somebody else's, and it works
    if made and not ours:
        raise Refusal(
            "plover_bridge_member: {} was made with {} by {}; remove it first (role bridge, tasks_from: uninstall)".format(
                facts.bridge, made.get("member"), made.get("manager")
            )
        )
    manager = next(m for m in MANAGERS if m.NAME == made["manager"]) if made else choose(facts, named)
    _no_rule_names(facts, facts.member, facts.bridge)
    return manager.join(facts)


def leave(facts):
    """The plan that gives the card its settings back; None if this role did not make the bridge."""
    if not facts.made:
        return None
    others = [port for port in facts.ports() if port != facts.member]
    if others:
        raise Refusal("plover_bridge_name: {} still has {}; stop its VMs first".format(facts.bridge, ", ".join(others)))
    _no_rule_names(facts, facts.bridge, facts.member)
    return next(m for m in MANAGERS if m.NAME == facts.made["manager"]).leave(facts)


def _no_rule_names(facts, device, other):
    """A rule of the routing policy would no longer match, and nobody would see why."""
    for rule in routes.bound(facts.rules, device):
        words = " ".join(f"{key} {rule[key]}" for key in ("iif", "oif", "table") if key in rule)
        raise Refusal(
            f"plover_bridge_member: a rule of the routing policy names {device} ({words}, priority {rule.get('priority')}), which will no "
            f"longer have the host's addresses; let it name {other}, or take it away (ip rule)"
        )
