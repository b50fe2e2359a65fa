# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-networkd: two files that come before the member's own, which stays as it is. Pure."""

from __future__ import annotations

from .model import Plan, Refusal, header

NAME, FOLDER = "networkd", "/etc/systemd/network/"


def own_files(bridge):
    stem = FOLDER + "05-plover-" + bridge
    return stem + ".netdev", stem + ".network", stem + "-port.network"


def manages(facts):
    return "networkd" in facts.tools and bool(facts.networkd)


def join(facts):
    netdev, network, port = own_files(facts.bridge)
    original = facts.networkd or {"path": "", "text": ""}
    theirs, ours = original["path"].rpartition("/")[2], port.rpartition("/")[2]
    if theirs and theirs <= ours:
        raise Refusal(
            "plover_bridge_manager: {} would win over {}; give it a name that sorts after it, like 10-{}".format(
                original["path"], ours, theirs
            )
        )
    sections = _sections(original["text"])
    card = [lines for name, lines in sections if name == "Link"]
    rest = [
        (name, [line for line in lines if not line.startswith("Bridge=")]) for name, lines in sections if name not in ("Match", "Link", "")
    ]
    if not any(name == "Network" for name, _lines in rest):
        rest.insert(0, ("Network", ["ConfigureWithoutCarrier=yes"]))
    online = [] if theirs else [("Link", ["RequiredForOnline=no"])]
    files = {
        netdev: header(facts) + _text([("NetDev", ["Name=" + facts.bridge, "Kind=bridge", "MACAddress=" + facts.mac])]),
        network: header(facts) + _text([("Match", ["Name=" + facts.bridge]), *online, *rest]),
        port: header(facts)
        + _text(
            [
                ("Match", ["Name=" + facts.member]),
                *(("Link", lines) for lines in card),
                ("Network", ["Bridge=" + facts.bridge, "LinkLocalAddressing=no"]),
            ]
        ),
    }
    return Plan(NAME, files, start=_start(facts), back_start=_start(facts))


def leave(facts):
    return Plan(
        NAME,
        {path: None for path in own_files(facts.bridge)},
        stop=[["ip", "link", "del", "dev", facts.bridge]],
        start=_start(facts),
        back_start=_start(facts),
    )


def _start(facts):
    return [["networkctl", "reload"], ["networkctl", "reconfigure", facts.member]]


def _sections(text):
    """(name, lines) of each section, without comments."""
    sections = [("", [])]
    for line in (raw.strip() for raw in text.split("\n")):
        if line.startswith("[") and line.endswith("]"):
            sections.append((line[1:-1], []))
        elif line and line[0] not in "#;":
            sections[-1][1].append(line)
    return sections


def _text(sections):
    return "\n".join("[{}]\n{}\n".format(name, "\n".join(lines)) for name, lines in sections)
