# SPDX-License-Identifier: GPL-3.0-or-later
"""Cutting wires of the replication network: a card's link, or (silently, by nft) what goes from one port to another."""

from __future__ import annotations

import subprocess

from ..hosts import HOSTS, NETNS, Host

TABLE = "plover_chaos"


def drop(pairs: set[tuple[str, str]]) -> None:
    """Nothing goes from the first to the second of each pair any more; replaces what was dropped before."""
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
