# SPDX-License-Identifier: GPL-3.0-or-later
"""Cards, bridges and listening ports of a host, read only."""

from __future__ import annotations

import glob
import json
import os
import subprocess

TOOL_TIMEOUT_S = 10
LISTEN = "0A"
COMMAND_CHARS = 200
HERTZ = 100  # of the kernel's clock_t, in which it tells delays


def tool(*words, said=""):
    """A command's output, with ``said`` as its input; empty if it is missing or hangs."""
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=TOOL_TIMEOUT_S, input=said, errors="replace"
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def read(path, default=""):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return default


def _listed(*words):
    try:
        found = json.loads(tool("ip", "-j", *words) or "[]")
    except ValueError:
        return []
    return [entry for entry in found if isinstance(entry, dict)]


def interfaces():
    """name -> {addresses, mtu, up, kind, master, default_route, forward_delay_s}; kind: bridge, card (also a virtual one) or other.
    ``forward_delay_s``: how long a new port of the bridge forwards nothing, twice; 0 without a spanning tree."""
    default = {entry.get("dev") for entry in _listed("-4", "route", "show", "default")}
    out = {}
    for entry in _listed("addr", "show"):
        name, place = entry.get("ifname", ""), f"/sys/class/net/{entry.get('ifname')}"
        own = [a.get("local") for a in entry.get("addr_info", []) if a.get("family") == "inet"]
        kind = "bridge" if os.path.isdir(f"{place}/bridge") else "other" if name == "lo" or os.path.exists(f"{place}/tun_flags") else "card"
        out[name] = {
            "addresses": own,
            "mtu": entry.get("mtu", 0),
            "up": "UP" in entry.get("flags", []),
            "kind": kind,
            "master": entry.get("master", ""),
            "default_route": name in default,
            "forward_delay_s": _forward_delay_s(place) if kind == "bridge" else 0.0,
        }
    return out


def _forward_delay_s(place):
    on = read(f"{place}/bridge/stp_state", "0") != "0"
    delay = read(f"{place}/bridge/forward_delay", "0")
    return int(delay) / HERTZ if on and delay.isdigit() else 0.0


def listening():
    """TCP port -> {pid, command} of the listening process; pid 0: it cannot be seen."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(table).splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == LISTEN:
                inodes[words[9]] = int(words[1].rsplit(":", 1)[1], 16)
    out = {str(port): {"pid": 0, "command": ""} for port in inodes.values()}
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue  # it ended meanwhile
        port = inodes.get(target[8:-1]) if target.startswith("socket:[") else None
        if port is not None and not out[str(port)]["pid"]:
            pid = link.split("/")[2]
            out[str(port)] = {"pid": int(pid), "command": read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:4000]}
    return out
