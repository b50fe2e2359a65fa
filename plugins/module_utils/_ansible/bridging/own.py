# SPDX-License-Identifier: GPL-3.0-or-later
"""If no network manager manages the card, plover-bridge.service makes the bridge at each boot. Pure."""

from __future__ import annotations

import json

from .model import Plan, Refusal

NAME, FOLDER, UNIT = "plover", "/etc/plover/bridges.d/", "plover-bridge.service"
ENABLE = (["systemctl", "enable", UNIT], ["systemctl", "restart", UNIT])
CONF = "/etc/plover/bridge.conf"  # the default bridge of qemu-ifup


def own_file(bridge):
    return FOLDER + bridge + ".json"


def manages(facts):
    return True


def before_0_2(facts):
    """This bridge was made by version 0.1, which noted it in bridge.conf alone, under another first line."""
    conf = facts.files.get(CONF, "").split("\n")
    return conf[:3] == ["# Ansible managed", "BRIDGE=" + facts.bridge, "MEMBER=" + facts.member]


def join(facts):
    """Static addresses and routes are noted, so the bridge has them even if the card gets its own only later in the boot."""
    for route in _of(facts, facts.routes):
        if "unknown" in route:
            raise Refusal(
                f"plover_bridge_member: the route to {route['dst']} of {facts.member} has {', '.join(route['unknown'])}, which this role "
                "does not carry over; take it away, or make the bridge yourself and set plover_bridge_name"
            )
    kept = {
        "addresses": [a for a in _of(facts, facts.addresses) if not a.get("dynamic")],
        "routes": [r for r in _of(facts, facts.routes) if r.get("protocol") not in ("dhcp", "ra")],
    }
    text = json.dumps({"bridge": facts.bridge, "member": facts.member, **kept}, indent=1, sort_keys=True) + "\n"
    return Plan(NAME, {own_file(facts.bridge): text}, start=ENABLE, back_start=_disable(facts))


def leave(facts):
    return Plan(NAME, {own_file(facts.bridge): None}, start=_disable(facts), back_start=ENABLE)


def _of(facts, what):
    return what.get(facts.member, []) or what.get(facts.bridge, [])


def _disable(facts):
    others = [path for path in facts.files if path.startswith(FOLDER) and path != own_file(facts.bridge)]
    return [] if others else [["systemctl", "disable", UNIT], ["systemctl", "stop", UNIT]]
