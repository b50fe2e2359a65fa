# SPDX-License-Identifier: GPL-3.0-or-later
"""ifupdown: the member's stanzas become the bridge's. The bridge is made by iproute2: no bridge-utils. Pure."""

from __future__ import annotations

import re

from .model import Plan, Refusal, header, hide, shown

NAME, MAIN = "ifupdown", "/etc/network/interfaces"
KEYWORDS = ("iface", "auto", "mapping", "source", "source-directory", "no-auto-down", "no-scripts", "rename", "template")
# These options make or tune the card itself; all others go with the address.
# What commands of a stanza call: those tune the card; these work on addresses, and are given the bridge.
TUNES, ADDRESSES = ("ethtool", "/sbin/ethtool", "/usr/sbin/ethtool"), ("ip", "/sbin/ip", "/usr/sbin/ip", "route", "/sbin/route")
COMMANDS = ("up", "post-up", "down", "pre-down", "pre-up", "post-down")
OF_THE_CARD = ("bond", "vlan", "mtu", "hwaddress", "ethernet-", "link-", "offload-", "pre-up", "post-down")


def own_file(bridge):
    return "/etc/network/interfaces.d/plover-" + bridge


def manages(facts):
    return "ifupdown" in facts.tools and any(_stanzas(text, facts.member) for text in _others(facts).values())


def join(facts):
    if not _sourced(facts.files.get(MAIN, "")):
        raise Refusal(f"plover_bridge_manager: {MAIN} does not read interfaces.d; add the line 'source /etc/network/interfaces.d/*'")
    files, found, auto = {}, [], False
    for path, text in _others(facts).items():
        plain = shown(text, facts.bridge)
        found += _stanzas(plain, facts.member)
        auto = auto or facts.member in _named(plain)
        hidden = _hidden(plain, facts.bridge, facts.member)
        if hidden != text:
            files[path] = hidden
    files[own_file(facts.bridge)], kept = _text(facts, found)
    return Plan(
        NAME,
        files,
        stop=[["ifdown", "--force", facts.member]],
        start=[["ifup", facts.member]] * kept + [["ifup", facts.bridge]],
        back_stop=_leave_stop(facts),
        back_start=[["ifup", facts.member]] if auto else [],
    )


def leave(facts):
    files = {path: shown(text, facts.bridge) for path, text in _others(facts).items() if shown(text, facts.bridge) != text}
    auto = any(facts.member in _named(shown(text, facts.bridge)) for text in _others(facts).values())
    files[own_file(facts.bridge)] = None
    return Plan(
        NAME,
        files,
        stop=_leave_stop(facts),
        start=[["ifup", facts.member]] if auto else [],
        back_stop=[["ifdown", "--force", facts.member]],
        back_start=[["ifup", facts.bridge]],
    )


def _leave_stop(facts):
    return [["ifdown", "--force", facts.bridge], ["ifdown", "--force", facts.member]]


def _others(facts):
    return {
        path: text for path, text in facts.files.items() if path.startswith("/etc/network/interfaces") and path != own_file(facts.bridge)
    }


def _sourced(main):
    words = [line.split() for line in main.split("\n")]
    return any(w[0] in ("source", "source-directory") and "interfaces.d" in w[1] for w in words if len(w) > 1)


def _parts(text):
    """(words of the first line, lines) of each stanza; lines before the first have no words."""
    parts, words = [((), [])], ()
    for line in text.split("\n"):
        words = line.split()
        if words and (words[0] in KEYWORDS or words[0].startswith("allow-")):
            parts.append((words, []))
        parts[-1][1].append(line)
    return parts


def _stanzas(text, card):
    return [(words, lines[1:]) for words, lines in _parts(text) if words[:1] == ["iface"] and _is(card, *words[1:2])]


def _is(card, name=""):
    """The card, or an alias of it (eth0:1): the bridge has the addresses of both."""
    return name.partition(":")[0] == card


def _named(text):
    """The cards of auto and allow-… lines."""
    return {
        card.partition(":")[0]
        for words, _lines in _parts(text)
        if words and (words[0] == "auto" or words[0].startswith("allow-"))
        for card in words[1:]
    }


def _hidden(text, bridge, card):
    out = []
    for words, lines in _parts(text):
        starts = words and (words[0] == "auto" or words[0].startswith("allow-"))
        if starts and any(_is(card, w) for w in words[1:]):
            rest = [w for w in words if not _is(card, w)]
            out += hide(lines[0], bridge, [" ".join(rest)] if rest[1:] else []) + lines[1:]
        elif words[:1] == ["iface"] and _is(card, *words[1:2]):
            for line in lines:
                out += hide(line, bridge) if line.strip() and not line.lstrip().startswith("#") else [line]
        else:
            out += lines
    return "\n".join(out)


def _text(facts, found):
    """(text of the bridge's own file, whether the card keeps settings that need it brought up itself)."""
    bridge, card = facts.bridge, facts.member
    bodies = [(words, [line.strip() for line in body if line.strip() and not line.strip().startswith("#")]) for words, body in found]
    bodies = [(words, [_with_the_bridge(facts, line) for line in body]) for words, body in bodies]
    kept = sorted({line for _words, body in bodies for line in body if _of_the_card(line)})
    out = ["auto " + card] if kept else []
    out += [f"iface {card} inet manual"] + ["    " + line for line in kept] + ["", "auto " + bridge]
    first = [
        f"pre-up [ -e /sys/class/net/{bridge} ] || ip link add dev {bridge} address {facts.mac} type bridge",
        f"pre-up ip link set dev {card} up master {bridge}",
    ]
    if not bodies:
        bodies = [(["iface", card, "inet", "manual"], [])]
    for words, body in bodies:
        out.append(" ".join(["iface", bridge, *words[2:]]))
        out += ["    " + line for line in first + ([f"up ip link set dev {bridge} up"] if "manual" in words else [])]
        out += ["    " + line for line in body if line not in kept]
    return header(facts) + "\n".join(out) + "\n", bool(kept)


def _of_the_card(line):
    words = line.split()
    return line.startswith(OF_THE_CARD) or (words[0] in COMMANDS and words[1:2] != [] and words[1] in TUNES)


def _with_the_bridge(facts, line):
    """The line of a stanza; a command that works on addresses is given the bridge in place of the card."""
    words, card = line.split(), facts.member
    if words[0] not in COMMANDS or _of_the_card(line) or not re.search(rf"(?<![\w.-]){re.escape(card)}(?![\w.-])", line):
        return line
    if words[1] not in ADDRESSES:
        raise Refusal(
            f"plover_bridge_member: a stanza of {card} has the line '{line}', and it is not clear whether it means the card or what has "
            f"its addresses; write $IFACE where it means the latter, or take the line out of {card}'s stanzas"
        )
    return re.sub(rf"(?<![\w.-]){re.escape(card)}(:\d+)?(?![\w.-])", facts.bridge, line)
