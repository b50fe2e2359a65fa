# SPDX-License-Identifier: GPL-3.0-or-later
"""netplan, with either renderer: the member's IP settings are commented out where they are and given to the bridge in a
file of its own. Works on the text, so that comments stay; what it made is compared with what it should mean. Pure."""

from __future__ import annotations

import fnmatch
import re

from .model import Plan, Refusal, header, hide, shown
from .networkmanager import WAIT_S

NAME, FOLDER = "netplan", "/etc/netplan/"
KINDS = ("ethernets", "bonds", "vlans")
MOVED = (
    "addresses",
    "dhcp4",
    "dhcp6",
    "dhcp4-overrides",
    "dhcp6-overrides",
    "dhcp-identifier",
    "gateway4",
    "gateway6",
    "nameservers",
    "routes",
    "routing-policy",
    "accept-ra",
    "ipv6-privacy",
    "ipv6-address-generation",
    "ipv6-address-token",
    "link-local",
    "critical",
    "optional-addresses",
)


def own_file(bridge):
    return FOLDER + "90-plover-" + bridge + ".yaml"


def manages(facts):
    return "netplan" in facts.tools and bool(_definitions(facts))


def join(facts):
    files, moved, renderer, name = {}, [], "", facts.member
    for path, kind, name, content in _definitions(facts):
        _alone(facts, path, name, content)
        plain = shown(facts.files[path], facts.bridge)
        hidden, lines = _without(plain, facts.bridge, (kind, name))
        keys = [key for key in MOVED if key in content]
        if keys:
            _agree(path, plain, hidden, kind, name, keys)
            if moved:
                raise Refusal(f"plover_bridge_member: netplan has settings of {name} in several files; put them into one")
            if not path.startswith(FOLDER):
                raise Refusal(f"plover_bridge_member: {path} is not to be edited; define {name} in {FOLDER}")
            moved, files[path] = lines, hidden
        renderer = content.get("renderer", renderer)
    own = [
        "network:",
        "  version: 2",
        "  bridges:",
        f"    {facts.bridge}:",
        f"      interfaces: [{name}]",
        f'      macaddress: "{facts.mac}"',
        "      parameters: {stp: false, forward-delay: 0}",
    ]
    own += ["      renderer: " + renderer] if renderer else []
    if not _definitions(facts):
        own[2:2] = ["  ethernets:", f"    {name}: {{dhcp4: false}}"]
    files[own_file(facts.bridge)] = header(facts) + "\n".join(own + ["      " + line for line in moved]) + "\n"
    both = _commands(facts, name, renderer)
    return Plan(NAME, files, start=both, back_start=both)


def leave(facts):
    files = {
        path: shown(text, facts.bridge) for path, text in facts.files.items() if "/netplan/" in path and shown(text, facts.bridge) != text
    }
    files[own_file(facts.bridge)] = None
    mine = _definitions(facts)
    name, renderer = (mine[-1][2], mine[-1][3].get("renderer", "")) if mine else (facts.member, "")
    both = _commands(facts, name, renderer)
    return Plan(NAME, files, stop=[["ip", "link", "del", "dev", facts.bridge]], start=both, back_start=both)


def _commands(facts, name, renderer):
    """The commands that put the member in and take it out. Not 'netplan apply', which touches every card of the host."""
    for path in sorted(facts.files):
        if not renderer and "/netplan/" in path:
            renderer = (_network(facts.files[path]) or {}).get("renderer", "")
    if renderer == "NetworkManager":
        up = ["nmcli", "--wait", WAIT_S, "connection", "up", "id", "netplan-" + name]
        return [["netplan", "generate"], ["nmcli", "connection", "reload"], up]
    return [["netplan", "generate"], ["networkctl", "reload"], ["networkctl", "reconfigure", facts.member]]


def _network(text):
    import yaml  # netplan itself depends on it

    try:
        return (yaml.safe_load(text) or {}).get("network") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise Refusal(f"plover_bridge_manager: a file of netplan cannot be read: {error}") from error


def _load(text):
    try:
        network = _network(text)
        return {kind: {str(k): v or {} for k, v in (network.get(kind) or {}).items()} for kind in KINDS}
    except AttributeError as error:
        raise Refusal(f"plover_bridge_manager: a file of netplan cannot be read: {error}") from error


def _definitions(facts):
    """(path, kind, name, content) of each definition of the member."""
    out = []
    for path in sorted(facts.files):
        if "/netplan/" not in path or path == own_file(facts.bridge):
            continue
        for kind, named in _load(shown(facts.files[path], facts.bridge)).items():
            out += [(path, kind, name, content) for name, content in named.items() if _means(facts, name, content)]
    return out


def _means(facts, name, content):
    match = content.get("match")
    if not match:
        return name == facts.member
    if content.get("set-name") == facts.member:
        return True
    return (
        fnmatch.fnmatch(facts.member, str(match.get("name", "*")))
        and "driver" not in match
        and str(match.get("macaddress", facts.mac)).lower() == facts.mac
    )


def _alone(facts, path, name, content):
    """Raises a Refusal if the definition is of other cards, too: they would all be put into the bridge, and lose their addresses."""
    others = [
        card
        for card, link in sorted(facts.links.items())
        if card not in ("lo", facts.member, facts.bridge) and not link.get("bridge") and _matches(content, card)
    ]
    if others:
        raise Refusal(
            f"plover_bridge_member: {path} defines {facts.member} by '{name}', which matches {', '.join(others)} too and would put "
            f"all of them into {facts.bridge}; give {facts.member} a definition of its own, and let '{name}' match the others only"
        )


def _matches(content, card):
    """Whether a definition's ``match`` takes that card. (A MAC is one card's; its VLANs have it too and are not matched.)"""
    match = content.get("match")
    return bool(match) and not {"driver", "macaddress"} & set(match) and fnmatch.fnmatch(card, str(match.get("name", "*")))


def _block(lines, keys):
    """(first, end) of the lines below ``keys`` in block style; (0, 0) if they are not there."""
    first, end = 0, len(lines)
    for key in keys:
        for at in range(first, end):
            if re.match(rf"^\s*[\"']?{re.escape(key)}[\"']?:\s*(#.*)?$", lines[at]):
                depth = _depth(lines[at])
                first = at + 1
                end = next(
                    (
                        n
                        for n in range(first, end)
                        if lines[n].strip()
                        and not lines[n].lstrip().startswith("#")
                        and _depth(lines[n]) <= depth
                        and not _item(lines[n], depth)
                    ),
                    end,
                )
                break
        else:
            return 0, 0
    return first, end


def _depth(line):
    return len(line) - len(line.lstrip())


def _item(line, depth):
    """An item of a list may be as deep as its key."""
    return line.lstrip().startswith("- ") and _depth(line) == depth


def _without(text, bridge, keys):
    """(text with the moved keys hidden, their lines as far left as they go)."""
    lines = text.split("\n")
    first, end = _block(lines, ("network", *keys))
    out, moved, hiding, depth = lines[:first], [], False, None
    for line in lines[first:end]:
        blank = not line.strip() or line.lstrip().startswith("#")
        if depth is None and not blank:
            depth = _depth(line)
        if not blank and _depth(line) == depth and not _item(line, depth):
            hiding = line.strip().split(":")[0].strip("\"'") in MOVED
        if hiding and not blank:
            # A definition must not be empty: one line stands in for all.
            instead = [] if moved else [" " * depth + "dhcp4: false"]
            moved.append(line[depth:])
            out += hide(line, bridge, instead)
        else:
            out.append(line)
    return "\n".join(out + lines[end:]), moved


def _agree(path, plain, hidden, kind, name, keys):
    """Raises a Refusal unless the edited text means what it should: some styles cannot be edited here."""
    want = _load(plain)
    want[kind][name] = {**{k: v for k, v in want[kind][name].items() if k not in keys}, "dhcp4": False}
    if _load(hidden) != want:
        raise Refusal(
            f"plover_bridge_member: {path} is not written in block style, one setting of {name} per line; "
            f"write it so, or put {name} into a bridge there yourself"
        )
