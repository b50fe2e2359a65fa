# SPDX-License-Identifier: GPL-3.0-or-later
"""What the settings of one VM must fulfil together; each by itself is checked by the table in settings.py."""

from __future__ import annotations

import re
from typing import Any

from . import boot, budget, disks, hooks, nics, topology

NAME_CHARACTERS_MAX = 64  # of a member
_CERTIFIED = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")  # a member's name, as a certificate can have it


def problems(values: dict[str, Any]) -> list[str]:
    """Each names the setting and the remedy. ``values``: all settings, each valid by itself."""
    out = _members(values)
    command = values["fence_command"]
    if not all(isinstance(word, str) and word and "\0" not in word for word in command):
        out.append("fence_command: must be a list of words, e.g. [/usr/local/sbin/fence, '{host}', '{address}']")
    elif command and not command[0].startswith("/"):
        out.append(f"fence_command: {command[0]!r} must be an absolute path, as no shell looks for it")
    elif values["fence_policy"] != "off" and not command:
        out.append(f"fence_command: is empty, but fence_policy is {values['fence_policy']}; give the agent or set it to off")
    out += _security(values) + boot.problems(values) + topology.problems(values)
    return out + disks.problems(values["disks"]) + nics.problems(values) + hooks.problems(values) + budget.problems(values)


def _members(values: dict[str, Any]) -> list[str]:
    out, members = [], values["members"]
    for name, member in members.items():
        if not name.isprintable() or not 1 <= len(name) <= NAME_CHARACTERS_MAX:
            out.append(f"members: {name[:NAME_CHARACTERS_MAX]!r} is no name; use 1 to {NAME_CHARACTERS_MAX} printable characters")
        elif not isinstance(member, dict) or set(member) != {"address", "kind"}:
            out.append(f"members.{name}: must have exactly 'address' and 'kind'")
        elif member["kind"] not in ("replica", "witness"):
            out.append(f"members.{name}.kind: {member['kind']!r} must be 'replica' or 'witness'")
        elif not nics.is_ipv4(member["address"]):
            out.append(f"members.{name}.address: {member['address']!r} is not an IPv4 address")
    if out:
        return out
    kinds = sorted(m["kind"] for m in members.values())
    if kinds != ["replica", "replica", "witness"]:
        out.append(f"members: need two replicas and one witness, found {kinds or 'none'}")
    if len({m["address"] for m in members.values()}) != len(members):
        out.append("members: two members share an address; the witness must be neither replica")
    if values["member"] not in members:
        out.append(f"member: {values['member']!r} is not among members {sorted(members)}")
    if members.get(values["preferred_leader"], {}).get("kind") != "replica":
        out.append(f"preferred_leader: {values['preferred_leader']!r} must be one of the two replicas")
    return out


def _security(values: dict[str, Any]) -> list[str]:
    if values["link_security"] != "tls":
        return []
    out = [
        f"members: {name!r} cannot stand in a certificate; use 1 to 64 letters, digits and ._-, or link_security: none"
        for name in values["members"]
        if not _CERTIFIED.match(name)
    ]
    if values["transport"] == "rdma" and not values["rdma_trusted_network"]:
        out.append(
            "rdma_trusted_network: is false, but transport rdma sends guest memory and the log unencrypted, whatever link_security says; "
            "set it to true if nobody but the members can reach the RDMA network, or use transport: tcp"
        )
    return out
