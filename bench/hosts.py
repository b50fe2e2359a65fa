# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts as network namespaces, for a benchmark that has a network and process namespace of its own.

```
 client ── lan ─┬─ br0 (primary)                  primary ─┐
                └─ br0 (secondary)              secondary ─┼─ repl      each end of these links is shaped
                                                  witness ─┘
```
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

HOSTS = {"primary": "10.77.0.1", "secondary": "10.77.0.2", "witness": "10.77.0.3"}
REPLICAS = ("primary", "secondary")
TAP = "plover0"  # of the VM, on each of them
GUEST_IP, CLIENT_IP = "192.168.79.50", "192.168.79.1"
LATENCY_MS = 50  # what a shaped link queues at most
TICKS = os.sysconf("SC_CLK_TCK")


def sh(words: str) -> str:
    return subprocess.run(words.split(), check=True, capture_output=True, text=True).stdout


def make() -> None:
    """Without the frames that IPv6 sends by itself: they would be measured too."""
    Path("/run/netns").mkdir(exist_ok=True)
    sh("mount -t tmpfs netns /run/netns")
    _quiet("")
    sh("ip link set lo up")
    for bridge in ("repl", "lan"):
        sh(f"ip link add {bridge} type bridge")
        sh(f"ip link set {bridge} up")
    sh(f"ip addr add {CLIENT_IP}/24 dev lan")
    for host, address in HOSTS.items():
        sh(f"ip netns add {host}")
        _quiet(f"ip netns exec {host} ")
        sh(f"ip -n {host} link set lo up")
        _cable(host, "repl", "eth0")
        sh(f"ip -n {host} addr add {address}/24 dev eth0")
        if host in REPLICAS:
            _cable(host, "lan", "lan0")
            sh(f"ip -n {host} link add br0 type bridge")
            sh(f"ip -n {host} link set br0 up")
            sh(f"ip -n {host} link set lan0 master br0")


def _quiet(words: str) -> None:
    for name in ("all", "default"):
        sh(f"{words}sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1")


def _cable(host: str, bridge: str, name: str) -> None:
    port = port_of(host, bridge)
    sh(f"ip link add {port} type veth peer name {name} netns {host}")
    sh(f"ip link set {port} master {bridge}")
    sh(f"ip link set {port} up")
    sh(f"ip -n {host} link set {name} up")


def port_of(host: str, bridge: str) -> str:
    return f"{bridge}-{host}"[:15]


def shape(mbit_per_s: int) -> None:
    """The links between the hosts, in both directions."""
    limit = f"root tbf rate {mbit_per_s}mbit burst {max(256, mbit_per_s // 4)}kb latency {LATENCY_MS}ms"
    for host in HOSTS:
        sh(f"tc qdisc replace dev {port_of(host, 'repl')} {limit}")
        sh(f"tc -n {host} qdisc replace dev eth0 {limit}")


def wire_bytes() -> dict[str, int]:
    """Host -> bytes it sent to the other hosts so far, as the kernel counts them."""
    links = {link["ifname"]: link["stats64"]["rx"]["bytes"] for link in json.loads(sh("ip -j -s link show"))}
    return {host: links[port_of(host, "repl")] for host in HOSTS}


def cpu_s() -> dict[str, float]:
    """Host -> CPU seconds of its processes that live."""
    return {host: sum(_cpu_s(pid) for pid in sh(f"ip netns pids {host}").split()) for host in HOSTS}


def cpu_s_by_kind() -> dict[str, float]:
    """The same, of VMs and daemons apart: "primary vm", "primary daemon", ..."""
    out = {f"{host} {kind}": 0.0 for host in HOSTS for kind in ("vm", "daemon")}
    for host in HOSTS:
        for pid in sh(f"ip netns pids {host}").split():
            out[f"{host} {_kind(pid)}"] += _cpu_s(pid)
    return out


def _kind(pid: str) -> str:
    try:
        return "vm" if Path(f"/proc/{pid}/comm").read_text().startswith("qemu") else "daemon"
    except OSError:
        return "daemon"  # it ended just now, so it counts for nothing


def _cpu_s(pid: str) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0  # it ended just now
    return (int(fields[11]) + int(fields[12])) / TICKS
