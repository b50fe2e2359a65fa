# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts wires of the replication network: a card's link, or (silently, with nft) the traffic from one port to another."""

from __future__ import annotations

import subprocess

from ..hosts import HOSTS, NETNS, Host

TABLE = "plover_chaos"


def drop(pairs: set[tuple[str, str]]) -> None:
    """Drops all traffic from the first to the second of each pair; replaces earlier cuts."""
    rules = "".join(f'  iifname "ft-{src}" oifname "ft-{dst}" drop\n' for src, dst in sorted(pairs))
    _nft(
        f"table bridge {TABLE} {{}}\ndelete table bridge {TABLE}\n"
        f"table bridge {TABLE} {{\n chain forward {{\n  type filter hook forward priority 0;\n{rules} }}\n}}\n"
    )


def heal() -> None:
    _nft(f"table bridge {TABLE} {{}}\ndelete table bridge {TABLE}\n")
    for host in HOSTS:
        if Host(host).running():
            Host(host).links("up")


def _nft(script: str) -> None:
    done = subprocess.run(["ip", "netns", "exec", NETNS, "nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"chaos: nft: {done.stderr.strip()}")
