# SPDX-License-Identifier: GPL-3.0-or-later
"""How a VM's CPUs look to its guest: the setting guest_topology, such as 1x4x2: one socket of four cores with two threads each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PATTERN = re.compile(r"([1-9]\d{0,2}x[1-9]\d{0,2}x[1-9]\d{0,2})?\Z")


def problems(values: Mapping[str, Any]) -> list[str]:
    text, count = values["guest_topology"], values["guest_vcpus"]
    if not text or _total(text) == count:
        return []
    return [f"guest_topology: {text} is {_total(text)} CPUs, but guest_vcpus is {count}; correct one of them"]


def _total(text: str) -> int:
    sockets, cores, threads = map(int, text.split("x"))
    return sockets * cores * threads


def smp(values: Mapping[str, Any]) -> str:
    """QEMU's option -smp."""
    if not values["guest_topology"]:
        return str(values["guest_vcpus"])
    sockets, cores, threads = values["guest_topology"].split("x")
    return f"{values['guest_vcpus']},sockets={sockets},cores={cores},threads={threads}"
