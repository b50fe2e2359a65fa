# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped example inventory, and ways to get something wrong in it."""

from __future__ import annotations

import atexit
import copy
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "playbooks" / "inventory.example.yml"
IMAGE = {"path": "/srv/a.img", "size_mib": 1}
HERE = str(Path(__file__).resolve())  # some file of this machine that is no image
SECOND = {
    "name": "two",
    "cluster_id": "11111111-2222-4333-8444-555555555555",
    "mac": "52:54:00:70:6c:02",
    "port": 7430,
    "tap": "plover1",
    "addresses": ["192.168.79.51"],
}
Change = Callable[[dict[str, Any]], None]


class Case(NamedTuple):
    title: str
    change: Change
    variable: str
    remedy: str
    wrong: str = ""


def good() -> dict[str, Any]:
    """The shipped example, with existing images."""
    inventory = yaml.safe_load(EXAMPLE.read_text())
    vms(inventory)[0].update(kernel=HERE, initrd=HERE)
    return inventory


def vms(inventory: dict[str, Any]) -> list[dict[str, Any]]:
    return inventory["plover"]["vars"]["plover_vms"]


def hosts_of(inventory: dict[str, Any], group: str) -> dict[str, Any]:
    return inventory["plover"]["children"][group]["hosts"]


def faulty(case: Case) -> dict[str, Any]:
    inventory = copy.deepcopy(good())
    case.change(inventory)
    return inventory


def vm(**changes: Any) -> Change:
    """Keys of the VM; ``...`` removes one."""

    def change(inventory: dict[str, Any]) -> None:
        vms(inventory)[0].update(changes)
        for key in [key for key, value in changes.items() if value is ...]:
            del vms(inventory)[0][key]

    return change


def settings(**values: Any) -> Change:
    return vm(settings=values)


def disk(**values: Any) -> Change:
    return vm(disks=[{key: value for key, value in {**IMAGE, **values}.items() if value is not ...}])


def disk_only(**changes: Any) -> Change:
    """A VM that boots from its disk."""
    return vm(**{"kernel": ..., "initrd": ..., "cmdline": ..., "disks": [IMAGE], **changes})


def cards(*nics: dict[str, Any]) -> Change:
    """A VM with these cards."""
    return vm(mac=..., addresses=..., nics=list(nics))


@functools.cache
def folder() -> Path:
    made = tempfile.mkdtemp(prefix="plover-images-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def image(name: str, content: bytes) -> str:
    """A file with this content, on this machine."""
    path = folder() / name.replace(" ", "-")
    path.write_bytes(content)
    return str(path)


def second(**changes: Any) -> Change:
    """A second VM on the same hosts that shares a value with the first. None: drop the key, so the default holds."""

    def change(inventory: dict[str, Any]) -> None:
        other = {**copy.deepcopy(vms(inventory)[0]), **SECOND, **changes}
        vms(inventory).append({key: value for key, value in other.items() if value is not None})

    return change


def shared(**values: Any) -> Change:
    return lambda inventory: inventory["plover"]["vars"].update(values)


def host(name: str, **values: Any) -> Change:
    def change(inventory: dict[str, Any]) -> None:
        group = "plover_witnesses" if name == "witness" else "plover_replicas"
        hosts_of(inventory, group)[name].update(values)
        for key in [key for key, value in values.items() if value is ...]:
            del hosts_of(inventory, group)[name][key]

    return change


def move(name: str, old: str, new: str) -> Change:
    def change(inventory: dict[str, Any]) -> None:
        hosts_of(inventory, new)[name] = hosts_of(inventory, old).pop(name)

    return change


def swap_in_groups(inventory: dict[str, Any]) -> None:
    """Host names written into the wrong groups."""
    move("primary", "plover_replicas", "plover_witnesses")(inventory)
    move("witness", "plover_witnesses", "plover_replicas")(inventory)


def group_outside(inventory: dict[str, Any]) -> None:
    inventory["plover_witnesses"] = inventory["plover"]["children"].pop("plover_witnesses")
    inventory["all"] = {"vars": inventory["plover"].pop("vars")}


def only_for(*names: str) -> Change:
    """plover_vms given to these hosts only."""

    def change(inventory: dict[str, Any]) -> None:
        given = inventory["plover"]["vars"].pop("plover_vms")
        for group in inventory["plover"]["children"].values():
            for name, values in group["hosts"].items():
                values.update({"plover_vms": given} if name in names else {})

    return change


def both(*changes: Change) -> Change:
    return lambda inventory: [change(inventory) for change in changes] and None
