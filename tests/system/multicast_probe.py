# SPDX-License-Identifier: GPL-3.0-or-later
"""Run in a network namespace of its own: a kernel in the guest's place is in two groups and is asked. Prints which groups it names in
answers, and what it thinks of the version of IGMP on its network afterwards."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, sys.argv[1] + "/plugins/module_utils")
from plover.protocol import multicast

ALL, IS_EXCLUDE = 0x0003, 2  # type of a record: the present state, as answers give it; others tell of changes
SETTLE_S, LISTEN_S = 3.0, 1.5  # the kernel tells of a new group twice, unasked


def records(frame: bytes) -> list[bytes]:
    """The groups of an answer."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x0800 and frame[23] == 2:
        report, size = frame[14 + 4 * (frame[14] & 15) :], 4
    elif kind == 0x86DD and frame[20] == 0 and frame[54] == 58:
        report, size = frame[62:], 16
    else:
        return []
    if report[0] not in (0x22, 143):
        return []
    out, at = [], 8
    for _ in range(struct.unpack_from("!H", report, 6)[0]):
        kind, more, sources = struct.unpack_from("!BBH", report, at)
        if kind == IS_EXCLUDE:
            out.append(report[at + 4 : at + 4 + size])
        at += 4 + size + size * sources + 4 * more
    return out


def heard(sock: socket.socket, seconds: float) -> set[str]:
    found, end = set(), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            groups = records(sock.recv(2048))
        except TimeoutError:
            break
        found |= {socket.inet_ntop(socket.AF_INET if len(g) == 4 else socket.AF_INET6, g) for g in groups}
    return found


def main() -> None:
    for words in ("link add there type veth peer name eth0", "link set there up", "link set eth0 up", "addr add 192.0.2.1/24 dev eth0"):
        subprocess.run(["ip", *words.split()], check=True)
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    out.bind(("there", ALL))
    member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + socket.inet_aton("192.0.2.1"))
    other = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    group = socket.inet_pton(socket.AF_INET6, "ff15::77") + struct.pack("@I", socket.if_nametoindex("eth0"))
    other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    unasked = heard(out, SETTLE_S)
    for frame in multicast.queries():
        out.send(frame)
    asked = heard(out, LISTEN_S)
    igmp = next(line for line in Path("/proc/net/igmp").read_text().splitlines() if "eth0" in line)
    print(json.dumps({"unasked": sorted(unasked), "asked": sorted(asked), "igmp": igmp.split()[-1]}))


main()
