# SPDX-License-Identifier: GPL-3.0-or-later
"""The values between the parts: a host's facts, the plan for it, a refusal. Pure."""

from __future__ import annotations

import re


class Refusal(Exception):
    """The change is impossible; the message names the variable and the remedy."""


class Facts:
    """One bridge and its member, as the host has them.

    ``links``: name -> {mac, master, bridge, index}; ``addresses`` and ``routes``: device -> entries of `ip -j` (global
    addresses; routes that the kernel did not make itself; see routes.py). ``rules``: of the routing policy. ``files``: path -> text of
    what the managers read. ``networkd``, ``profile``: what that manager says of the member, or None. ``tools``: the managers
    that are there.
    """

    def __init__(
        self,
        bridge,
        member,
        links=None,
        addresses=None,
        routes=None,
        rules=None,
        files=None,
        networkd=None,
        profile=None,
        nm_state="",
        tools=(),
        made=None,
    ):
        self.bridge, self.member = bridge, member
        self.links, self.addresses, self.routes, self.rules = links or {}, addresses or {}, routes or {}, rules or []
        self.files, self.networkd, self.profile, self.nm_state = files or {}, networkd, profile, nm_state
        self.tools, self.made = tuple(tools), made or {}

    @property
    def mac(self):
        return self.links[self.member]["mac"]

    @property
    def master(self):
        return self.links.get(self.member, {}).get("master", "")

    def ports(self):
        return sorted(name for name, link in self.links.items() if link.get("master") == self.bridge)


class Plan:
    """Texts of files (None: absent), commands before (``stop``) and after (``start``) they are put in place, and the
    commands of the way back. A ``stop`` may fail, a ``start`` may not."""

    def __init__(self, manager, files, stop=(), start=(), back_stop=(), back_start=()):
        self.manager, self.files = manager, dict(files)
        self.stop, self.start = [list(c) for c in stop], [list(c) for c in start]
        self.back_stop, self.back_start = [list(c) for c in back_stop], [list(c) for c in back_start]

    def as_dict(self):
        return {key: getattr(self, key) for key in ("manager", "files", "stop", "start", "back_stop", "back_start")}


HEADER = "# Ansible managed (role bridge of plover.vmft): bridge {bridge} with the card {member}.\n"


def header(facts):
    return HEADER.format(bridge=facts.bridge, member=facts.member)


# Lines of a user's own file are commented out, not removed, with the number of replacement lines after them. When the bridge is
# removed, the lines come back, and the user's later changes elsewhere in the file stay.
def hide(line, bridge, instead=()):
    return [f"#plover-{bridge}:{len(instead)}# {line}", *instead]


def shown(text, bridge):
    """``text`` with its hidden lines back in place."""
    out, skip = [], 0
    for line in text.split("\n"):
        match = re.match(rf"^#plover-{re.escape(bridge)}:(\d)# (.*)$", line)
        if skip:
            skip -= 1
        elif match:
            skip = int(match.group(1))
            out.append(match.group(2))
        else:
            out.append(line)
    return "\n".join(out)
