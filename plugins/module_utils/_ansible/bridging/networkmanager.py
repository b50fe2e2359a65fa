# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkManager: two keyfiles, the bridge's with the IP settings of the member's profile, which stays as it is. Pure."""

from __future__ import annotations

import uuid

from .model import Plan, Refusal, header
from .networkd import _sections, _text

NAME, FOLDER = "networkmanager", "/etc/NetworkManager/system-connections/"
WAIT_S = "20"


def own_files(bridge):
    stem = FOLDER + "plover-" + bridge
    return stem + ".nmconnection", stem + "-port.nmconnection"


def identity(name):
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name + ".bridge.plover"))


def lasting(profile):
    """The profile's UUID, if it is on disk: NetworkManager makes and forgets others by itself."""
    return profile["uuid"] if profile and profile["path"].startswith("/etc/") else ""


def manages(facts):
    return "networkmanager" in facts.tools and facts.nm_state not in ("", "unmanaged", "unavailable", "unknown")


def join(facts):
    bridge_file, port_file = own_files(facts.bridge)
    profile = facts.profile or {"uuid": "", "path": "", "text": ""}
    if profile["uuid"] and not profile["text"]:
        raise Refusal(
            "plover_bridge_member: NetworkManager's profile of {} is no keyfile ({}); run 'nmcli connection migrate' there".format(
                facts.member, profile["path"] or "it is in memory only"
            )
        )
    sections = dict(_sections(profile["text"]))
    own = dict(line.split("=", 1) for line in sections.get("connection", []) if "=" in line)
    if own.get("type", "ethernet") not in ("ethernet", "802-3-ethernet"):
        raise Refusal(
            "plover_bridge_member: {} is a {} to NetworkManager; make the bridge yourself and name it as "
            "plover_bridge_name, or name a card".format(facts.member, own["type"])
        )
    priority = "autoconnect-priority={}".format(min(999, 100 + max(0, int(own.get("autoconnect-priority", "0")))))
    zone = ["zone=" + own["zone"]] if own.get("zone") else []
    ip = _ip(facts, sections) if "ipv4" in sections or "ipv6" in sections else _from_kernel(facts)
    files = {
        bridge_file: header(facts)
        + _text(
            [
                (
                    "connection",
                    [
                        "id=plover-" + facts.bridge,
                        "uuid=" + identity(facts.bridge),
                        "type=bridge",
                        "interface-name=" + facts.bridge,
                        priority,
                        "autoconnect-retries=0",
                        *zone,
                    ],
                ),
                ("ethernet", ["cloned-mac-address=" + facts.mac]),
                ("bridge", ["stp=false"]),
                *ip,
            ]
        ),
        port_file: header(facts)
        + _text(
            [
                (
                    "connection",
                    [
                        f"id=plover-{facts.bridge}-port",
                        "uuid=" + identity(facts.bridge + "-port"),
                        "type=ethernet",
                        "interface-name=" + facts.member,
                        "master=" + facts.bridge,
                        "slave-type=bridge",
                        priority,
                        "autoconnect-retries=0",
                    ],
                ),
                *([("ethernet", sections["ethernet"])] if sections.get("ethernet") else []),
            ]
        ),
    }
    return Plan(NAME, files, start=_up(facts), back_start=_down(lasting(profile), facts.member))


def leave(facts):
    original = facts.made.get("profile", "")
    return Plan(NAME, {path: None for path in own_files(facts.bridge)}, start=_down(original, facts.member), back_start=_up(facts))


def _up(facts):
    return [["nmcli", "connection", "reload"], ["nmcli", "--wait", WAIT_S, "connection", "up", "uuid", identity(facts.bridge + "-port")]]


def _down(original, member):
    """After a reload the profiles are gone, and so is the bridge, as NetworkManager made it."""
    up = [["nmcli", "--wait", WAIT_S, "connection", "up", "uuid", original, "ifname", member]] if original else []
    return [["nmcli", "connection", "reload"], *up]


def _ip(facts, sections):
    """The profile's IP settings. NetworkManager takes a bridge down whose DHCP gets no answer, and the VMs with it."""
    out = []
    for key, family in (("ipv4", "inet"), ("ipv6", "inet6")):
        lines = sections.get(key, ["method=auto"])
        if "method=auto" in lines and not any(a["family"] == family for a in facts.addresses.get(facts.member, [])):
            lines = ["method=disabled" if family == "inet" else "method=link-local"]
        elif "method=auto" in lines and not any(line.startswith("dhcp-timeout=") for line in lines):
            lines = lines + ["dhcp-timeout=2147483647"]
        out.append((key, lines))
    return out + ([("proxy", sections["proxy"])] if "proxy" in sections else [])


def _from_kernel(facts):
    """For a card that NetworkManager manages without a profile: its present addresses."""
    out = []
    for key, family in (("ipv4", "inet"), ("ipv6", "inet6")):
        have = [a for a in facts.addresses.get(facts.member, []) if a["family"] == family and not a.get("dynamic")]
        lines = ["address{}={}/{}".format(i, a["local"], a["prefixlen"]) for i, a in enumerate(have, 1)]
        gateways = [
            r["gateway"]
            for r in facts.routes.get(facts.member, [])
            if r.get("dst") == "default" and "gateway" in r and (":" in r["gateway"]) == (family == "inet6")
        ]
        out.append(
            (key, ["method=manual" if have else "method=disabled", *lines, *(["gateway=" + gateways[0]] if have and gateways else [])])
        )
    return out
