# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator writes, and what hosts report to the control machine: each problem is a sentence, never an exception."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ansible_collections.plover.vmft.plugins.module_utils._ansible import secrets
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import inventory

from tests.prechecks.inventory import good, vms

from ..target import Target, promise
from . import group

HOSTS = ("alpha", "beta", "gamma")


def problems(data: bytes) -> None:
    """plover_vms, the hosts' variables and the groups, in this order, one on each line."""
    try:
        given, hosts, groups = (json.loads(line) for line in data.split(b"\n"))
    except (ValueError, RecursionError):
        return  # the YAML parser's work
    if not isinstance(hosts, dict) or not isinstance(groups, dict):
        return  # Ansible makes both
    hosts = {str(name): values for name, values in hosts.items() if isinstance(values, dict)}
    groups = {str(name): [str(host) for host in members] for name, members in groups.items() if isinstance(members, list)}
    found = inventory.problems(given, hosts, groups)
    promise(all(isinstance(problem, str) and problem for problem in found), "a problem that is no sentence")


def _problems() -> Iterator[tuple[str, bytes]]:
    plover: dict[str, Any] = good()["plover"]
    groups = {name: list(child["hosts"]) for name, child in plover["children"].items()}
    hosts = {host: {**plover["vars"], **(values or {})} for child in plover["children"].values() for host, values in child["hosts"].items()}
    for values in hosts.values():
        values["plover_vms"] = vms({"plover": plover})
    rest = [hosts, {**groups, "all": list(hosts)}]
    yield "example", _lines(vms({"plover": plover}), *rest)
    one = {key: value for key, value in vms({"plover": plover})[0].items() if key not in ("mac", "addresses")}
    cards = [{"mac": "52:54:00:70:6c:01"}, {"mac": "52:54:00:70:6c:02", "bridge": "br1", "mtu": 9000, "networks": ["10.0.0.0/8"]}]
    yield "nics", _lines([{**one, "nics": cards}], *rest)


def _lines(*parts: Any) -> bytes:
    return b"\n".join(json.dumps(part, default=str).encode() for part in parts)


def looked(data: bytes) -> None:
    """What a host printed about its secret files."""
    found = secrets.looked(data.decode("utf-8", "replace"))
    promise(isinstance(found, dict), "another form")


def _looked() -> Iterator[tuple[str, bytes]]:
    yield "none", b"demo\n"
    yield "one", f"demo {group.SECRET}\n".encode()


TARGETS = [
    Target("inventory", problems, (), _problems, is_json=True),
    Target("secret_looks", looked, (), _looked),
]
