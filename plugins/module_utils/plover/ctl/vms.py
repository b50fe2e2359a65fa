# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs of this host: those whose settings are here, and what their daemons say, asked all at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..config.settings import Config
from ..errors import ConfigError, ControlError
from ..host.settings_file import load
from . import client
from .reply import Reply

VMS_MAX = 64  # asked at once, each by a thread
ANSWER_S = 2.0
CONTROL_SOCKET = "ctl.sock"


class Vm(NamedTuple):
    """``config`` is None if the settings cannot be used; then ``problem`` says why."""

    name: str
    config: Config | None
    problem: str = ""


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json"))


def named(folder: Path, name: str) -> Vm:
    try:
        return Vm(name, load(folder / f"{name}.json"))
    except ConfigError as error:
        return Vm(name, None, str(error))


def found(folder: Path, name: str | None = None) -> list[Vm]:
    """All of this host, or the one of that name. Raises ConfigError if that one's settings cannot be used."""
    if name:
        return [Vm(name, load(folder / f"{name}.json"))]
    return [named(folder, each) for each in names(folder)]


def no_answer(path: Path, error: ControlError) -> Reply:
    return {
        "ok": False,
        "error": f"the daemon does not answer on {path} ({error}); see 'systemctl status "
        f"plover-replica@{path.parent.name} plover-witness@{path.parent.name}'",
    }


def status_of(vm: Vm) -> Reply:
    """What its daemon says within ANSWER_S. Settings that cannot be used are an answer that is not ok, too."""
    if vm.config is None:
        return {"ok": False, "error": vm.problem}
    path = vm.config.run_path / CONTROL_SOCKET
    try:
        return client.ask(path, {"cmd": "status"}, ANSWER_S)
    except ControlError as error:
        return no_answer(path, error)


def ask_all(vms: list[Vm]) -> list[Reply]:
    """The status of each, in their order. A daemon that hangs keeps nobody else's answer."""
    if not vms:
        return []
    left = {"ok": False, "error": f"not asked: this host has over {VMS_MAX} VMs; ask with --vm NAME"}
    with ThreadPoolExecutor(VMS_MAX, "ask") as threads:
        return [*threads.map(status_of, vms[:VMS_MAX]), *(dict(left) for _vm in vms[VMS_MAX:])]
