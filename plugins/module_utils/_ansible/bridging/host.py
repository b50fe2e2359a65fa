# SPDX-License-Identifier: GPL-3.0-or-later
"""The host: its files, links and addresses. Every command is bounded."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import time

from . import netplan, networkd, networkmanager, own, plans, routes
from .model import Facts, Refusal

COMMAND_TIMEOUT_S, STAND_TIMEOUT_S, GONE_LOOKS, FILE_BYTES_MAX = 30, 15, 3, 1 << 20
READ = (
    "/etc/network/interfaces",
    "/etc/network/interfaces.d/*",
    "/etc/netplan/*.yaml",
    "/run/netplan/*.yaml",
    "/lib/netplan/*.yaml",
    own.FOLDER + "*.json",
    own.CONF,
)


class HostError(Exception):
    """A required command failed; the message is its output."""


def command(words, timeout_s=COMMAND_TIMEOUT_S):
    """(status, output) of a command."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, f"no end after {timeout_s} s"
    except OSError as error:
        return 127, error.strerror or str(error)
    return done.returncode, done.stdout.decode(errors="replace").strip()


def must(words):
    code, said = command(words)
    if code:
        raise HostError("'{}' failed: {}".format(" ".join(words), said[-600:]))
    return said


def read(path):
    """Text of a file, None if there is none."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > FILE_BYTES_MAX:
            return None
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: cannot be read: {error}") from error


def write(path, text, mode=0o644):
    """Writes a file completely or not at all, even if the host loses power; None removes it."""
    if text is None:
        if os.path.lexists(path):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = path + ".plover-new"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def mode_of(path):
    """An existing file keeps its mode; files of NetworkManager and netplan may contain secrets."""
    if os.path.isfile(path):
        return os.stat(path).st_mode & 0o777
    return 0o600 if path.startswith((networkmanager.FOLDER, netplan.FOLDER)) else 0o644


def look(bridge, member, made=None):
    """Facts of one bridge and its member."""
    links = _links()
    tools = _tools()
    extra = [*networkd.own_files(bridge), *networkmanager.own_files(bridge)]
    paths = [path for pattern in READ for path in sorted(glob.glob(pattern))] + extra
    files = {path: text for path in paths for text in [read(path)] if text is not None}
    facts = Facts(
        bridge, member, links=links, addresses=_addresses(), routes=_routes(), rules=_rules(), files=files, tools=tools, made=made
    )
    if "networkd" in tools:
        facts.networkd = _networkd(links.get(member, {}).get("index"), facts)
    if "networkmanager" in tools:
        facts.nm_state, facts.profile = _networkmanager(member)
    return facts


def _tools():
    there = {
        "netplan": shutil.which("netplan"),
        "networkmanager": shutil.which("nmcli") and _active("NetworkManager.service"),
        "networkd": _active("systemd-networkd.service"),
        "ifupdown": shutil.which("ifup") and shutil.which("ifdown"),
    }
    return [name for name, found in there.items() if found]


def _active(unit):
    return command(["systemctl", "is-active", "--quiet", unit])[0] == 0


def _json(words):
    try:
        return json.loads(must(words) or "[]")
    except ValueError as error:
        raise HostError("'{}' printed no JSON: {}".format(" ".join(words), error)) from error


def _links():
    return {
        link["ifname"]: {
            "mac": link.get("address", ""),
            "master": link.get("master", ""),
            "index": link["ifindex"],
            "bridge": link.get("linkinfo", {}).get("info_kind") == "bridge",
        }
        for link in _json(["ip", "-j", "-d", "link", "show"])
        if "ifname" in link
    }


def _addresses():
    return routes.addresses(_json(["ip", "-j", "addr", "show"]))


def _routes():
    out = {}
    for family in ("-4", "-6"):
        for device, found in routes.routes(_json(["ip", "-j", family, "route", "show", "table", "all"]), family).items():
            out.setdefault(device, []).extend(found)
    return out


def _rules():
    return [rule for family in ("-4", "-6") for rule in _json(["ip", "-j", family, "rule", "show"])]


def _networkd(index, facts):
    """The .network file that networkd uses for the member; taken from the note if ours is in place."""
    path = facts.made.get("network", "")
    if not path:
        link = dict(line.split("=", 1) for line in (read(f"/run/systemd/netif/links/{index}") or "").split("\n") if "=" in line)
        path = link.get("NETWORK_FILE", "")
    text = read(path) if path else None
    if text is None or path in networkd.own_files(facts.bridge):
        return None
    extra = [read(p) or "" for p in sorted(glob.glob(f"/etc/systemd/network/{os.path.basename(path)}.d/*.conf"))]
    return {"path": path, "text": "\n".join([text, *extra])}


def _networkmanager(member):
    """(state, profile) of the member; a link that NetworkManager only watches has no profile."""
    code, said = command(["nmcli", "-e", "no", "-g", "GENERAL.STATE,GENERAL.CON-UUID", "device", "show", member])
    lines = said.split("\n") + [""]
    if code or "unmanaged" in lines[0] or "external" in lines[0]:
        return ("external" if "external" in lines[0] else "unmanaged" if not code else ""), None
    if not lines[1].strip():
        return lines[0], None
    for line in must(["nmcli", "-e", "no", "-t", "-f", "UUID,FILENAME", "connection", "show"]).split("\n"):
        uuid, _colon, path = line.partition(":")
        if uuid == lines[1].strip():
            text = read(path) if path.endswith(".nmconnection") else None
            return lines[0], {"uuid": uuid, "path": path, "text": text or ""}
    return lines[0], None


def make_bridge(bridge, member):
    links = _links()
    if bridge not in links:
        must(["ip", "link", "add", "dev", bridge, "address", links[member]["mac"], "type", "bridge"])
    if links[member]["master"] != bridge:
        must(["ip", "link", "set", "dev", member, "master", bridge])
    for card in (member, bridge):
        must(["ip", "link", "set", "dev", card, "up"])


def detach(bridge, member, remove):
    if _links().get(member, {}).get("master") == bridge:
        must(["ip", "link", "set", "dev", member, "nomaster"])
    if remove:
        command(["ip", "link", "del", "dev", bridge])  # its manager may be deleting it too: see wait_gone
    must(["ip", "link", "set", "dev", member, "up"])


def wait_standing(bridge, member):
    """Waits until the member is in the bridge: some managers go on working after their command has ended."""
    end = time.monotonic() + STAND_TIMEOUT_S
    while True:
        links = _links()
        if links.get(member, {}).get("master") == bridge and links.get(bridge, {}).get("bridge"):
            return
        if time.monotonic() > end:
            raise HostError(f"{member} is not in {bridge} after {STAND_TIMEOUT_S} s")
        time.sleep(0.1)


def wait_gone(bridge):
    """Waits until the bridge is gone. A manager that does not know yet that its profile is gone makes a deleted bridge again, and
    one that knows goes on working after its command has ended."""
    end, looks = time.monotonic() + STAND_TIMEOUT_S, 0
    while looks < GONE_LOOKS:
        if bridge not in _links():
            looks += 1
        elif time.monotonic() > end:
            raise HostError(f"{bridge} is still there after {STAND_TIMEOUT_S} s")
        else:
            looks = 0
            command(["ip", "link", "del", "dev", bridge])
        time.sleep(0.1)


def carry(source, target, addresses, ways):
    """``addresses`` and routes (``ways``) are on ``target`` and not on ``source``; first there, then not here any more. Does what
    can be done; raises HostError with all that could not."""
    failed = _tried([["ip", "link", "set", "dev", target, "up"]])
    now = _addresses()
    there = {routes.address_key(a) for a in now.get(target, [])}
    for a in addresses:
        if routes.address_key(a) not in there:
            failed += _give_address(a, target)
    for a in now.get(source, []):
        command(routes.address_words("del", a, source))
    for r in _routes().get(source, []):
        if "nexthops" not in r:  # those are replaced: other cards may be in them
            command(routes.route_words("del", r, source, target))
    for r in sorted(ways, key=lambda r: "gateway" in r or "nexthops" in r or "via" in r):
        failed += _give_route(r, source, target)
    if failed:
        raise HostError("; ".join(failed))


def _tried(commands):
    """What failed of them."""
    out = []
    for words in commands:
        code, said = command(words)
        if code:
            out.append("'{}' failed: {}".format(" ".join(words), said[-300:]))
    return out


def _give_address(a, device):
    """A manager that goes on working after its command has ended may have added the address since we looked."""
    failed = _tried([routes.address_words("add", a, device)])
    there = {routes.address_key(b) for b in _addresses().get(device, [])} if failed else set()
    return [] if routes.address_key(a) in there else failed


def _give_route(r, source, device):
    """A route that the manager made there by itself, perhaps with its own metric, is left as it is."""
    if routes.route_key(r) in map(routes.route_key, _routes().get(device, [])):
        return []
    return _tried([routes.route_words("replace", r, source, device)])


def up(text, wait_s=10.0):
    """What plover-bridge.service does for one file of bridges.d; harmless if everything exists already."""
    noted = json.loads(text)
    bridge, member = noted["bridge"], noted["member"]
    end = time.monotonic() + wait_s
    while member not in _links():
        if time.monotonic() > end:
            raise HostError(f"plover_bridge_member: there is no card {member}")
        time.sleep(0.2)
    facts = Facts(bridge, member, links=_links(), addresses=_addresses(), routes=_routes())
    make_bridge(bridge, member)
    addresses = facts.addresses.get(member, [])
    local = {routes.address_key(a) for a in addresses}
    addresses += [a for a in noted["addresses"] if routes.address_key(a) not in local]
    carry(member, bridge, addresses, noted["routes"] + facts.routes.get(member, []))


__all__ = [
    "HostError",
    "carry",
    "command",
    "detach",
    "look",
    "make_bridge",
    "mode_of",
    "must",
    "plans",
    "read",
    "up",
    "wait_gone",
    "wait_standing",
    "write",
]
