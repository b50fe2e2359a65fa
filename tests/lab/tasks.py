# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of the collection on the lab's hosts, as a user's own play has them, and what they returned."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS
from lab.paths import LAB

DAEMONS = "systemctl show -P MainPID 'plover-replica@*' 'plover-witness@*'"
FOLDER = LAB / "tasks"
TO = f"{FOLDER}/{{{{ inventory_hostname }}}}.json"


def run(hosts: str, tasks: list[dict], *options: str, **play) -> tuple[int, str]:
    """(changed tasks over all hosts, the output). Further arguments are keywords of the play."""
    FOLDER.mkdir(exist_ok=True)
    book = FOLDER / "play.yml"
    book.write_text(yaml.safe_dump([{"hosts": hosts, "gather_facts": False, "tasks": tasks, **play}]))
    return deploy.play(*options, playbook=book)


def module(hosts: str, which: str, /, *options: str, **arguments) -> dict[str, dict]:
    """What one module of the collection returned, by host; a failure is a result too."""
    for path in Path(FOLDER).glob("*.json"):
        path.unlink()
    run(
        hosts,
        [
            {f"plover.vmft.{which}": arguments, "register": "found", "ignore_errors": True},
            {"ansible.builtin.copy": {"content": "{{ found | to_json }}", "dest": TO}, "delegate_to": "localhost", "check_mode": False},
        ],
        *options,
    )
    return {path.stem: json.loads(path.read_text()) for path in Path(FOLDER).glob("*.json")}


def daemons() -> dict[str, set[str]]:
    """Host -> the processes of its members. (QEMU's may change on a busy machine, by a failover.)"""
    return {host: set(execute(host, DAEMONS).stdout.split()) for host in HOSTS}
