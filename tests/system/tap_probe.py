# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 tap_probe.py, in a network and a mount namespace of its own: a real TAP with its filter, a bridge, and who listens there.

Takes {"settings", "frames": [hex], "last", "bpdu": hex, "flush"} on standard input. Says which frames arrived at another host of the
bridge or at this host itself, what was dropped, and whether a BPDU moved the root of the bridge's spanning tree.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from plover.config import spoof
from plover.dataplane.tap import Tap
from plover.dataplane.tap_filter import TapFilter
from plover.protocol.frames import split, wrap

TAP, ALL = "pf-tap0", 3
ENDS = b"plover-unit"  # what a frame of ours ends with, before its number
PATIENCE_S = 3.0
ROOT_ID = Path("/sys/class/net/br0/bridge/root_id")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def numbered(frame: bytes, number: int) -> bytes:
    return frame + ENDS + struct.pack("!I", number)


def listener(name: str) -> socket.socket:
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    out.bind((name, 0))
    out.settimeout(0.05)
    return out


def arrived(sockets: list[socket.socket], last: int) -> set[int]:
    """The numbers of the frames that came, up to the frame ``last``, which passes."""
    found: set[int] = set()
    for sock in sockets:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                data = sock.recv(4096)
            except TimeoutError:
                continue
            if data[-len(ENDS) - 4 : -4] == ENDS:
                number = struct.unpack("!I", data[-4:])[0]
                if number == last:
                    break
                found.add(number)
        else:
            raise SystemExit("the last frame did not arrive")
    return found


def network() -> None:
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)  # of this network namespace
    sysctl = Path("/proc/sys/net")
    (sysctl / "ipv6/conf/default/disable_ipv6").write_text("1")  # the kernel is to say nothing by itself
    for path in sysctl.glob("bridge/bridge-nf-call-*"):
        path.write_text("0")  # br_netfilter cuts off what follows a packet
    for words in (
        "link set lo up",
        "link add br0 address 02:70:6c:00:00:01 type bridge",
        "link set br0 type bridge mcast_snooping 0",
        "addr add 192.168.79.1/24 dev br0",
        "link add other type veth peer name port",
        "link set port master br0 up",
        "link set br0 up",
        "link set other up",
    ):
        ip(words)


async def run(order: dict) -> dict:
    network()
    with tempfile.TemporaryDirectory() as folder:
        scripts = []
        for name, words in (("ifup", "master br0 up"), ("ifdown", "nomaster down")):
            path = Path(folder, name)
            path.write_text(f"#!/bin/sh\nip link set $1 {words}\n")
            path.chmod(0o755)
            scripts.append(str(path))
        tap = Tap(TAP, "br0", *scripts, time.monotonic)
        out = await judged(order, tap)
        tap.close()
    return out


async def down_and_up(tap: Tap, other: socket.socket, frame: bytes) -> dict[str, list]:
    """A client's frame waits in the TAP when it goes down, and another comes once it is up again. Which are read then?"""
    head, end = b"\xff" * 6 + other.getsockname()[4] + frame[12:], time.monotonic() + PATIENCE_S
    while tap.read_batch():  # what the host has answered until now
        pass
    other.send(numbered(head, 1))
    while not (waits := select.select([tap.fd], [], [], 0.01)[0]) and time.monotonic() < end:
        pass
    await tap.down()
    await tap.up()
    other.send(numbered(head, 2))
    read: list[int] = []
    while 2 not in read and time.monotonic() < end:
        read += [int.from_bytes(bytes(got[-4:]), "big") for got in split(tap.read_batch()) if got[-len(ENDS) - 4 : -4] == ENDS]
    return {"waited": [bool(waits), tap.stale > 0], "read": read}


async def judged(order: dict, tap: Tap) -> dict:
    filter_ = TapFilter(TAP, spoof.given(order["settings"]))
    await filter_.load()
    if order.get("flush"):
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert not await filter_.look()
    await tap.up()
    sockets = [listener("other"), listener("br0")]
    frames = [bytes.fromhex(text) for text in order["frames"]]
    last = bytes.fromhex(order["last"])
    found: list[list] = []
    now: dict[str, int] = {}
    for frame in frames:
        before = now
        run = wrap(numbered(frame, len(found))) + wrap(numbered(last, 1 << 30))
        tap.write(run, time.monotonic() + 60)
        came = len(found) in arrived(sockets, 1 << 30)
        await filter_.look()
        now = filter_.describe()["dropped"]
        found.append([came, [reason for reason in now if now[reason] != before.get(reason, 0)]])
    stale = await down_and_up(tap, sockets[0], last)
    ip("link set br0 type bridge stp_state 1")
    root = ROOT_ID.read_text()
    tap.write(wrap(bytes.fromhex(order["bpdu"])), time.monotonic() + 60)
    await filter_.look()
    out = {"found": found, "root_moved": ROOT_ID.read_text() != root, "status": filter_.describe(), "tap_dropped": tap.dropped, **stale}
    await filter_.remove()
    out["left"] = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    return out


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))
