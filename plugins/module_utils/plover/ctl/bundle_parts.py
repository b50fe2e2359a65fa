# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a support bundle. Each can fail by itself. No file with a secret is opened: of those the settings hold the path."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..config import struck_out
from ..config.settings import Config
from ..host import history
from ..host.settings_file import FILE_BYTES_MAX
from . import vms
from .bounded import contents_of, output_of
from .reply import Reply

SOON_S, JOURNAL_S = 10.0, 30.0
BYTES_MAX, JOURNAL_BYTES_MAX = 1 << 20, 8 << 20
JOURNAL_LINES_MAX = 50_000
UNITS = ("plover-replica", "plover-witness", "plover-qemu")
# A process in a unit's tree: its words may hold a password, its program does not.
_PROCESS = re.compile(r"^([ |│]*(?:├─|└─|\|-|`-) *\d+ \S+).*$", re.MULTILINE)


class Part(NamedTuple):
    """``make`` may raise OSError or PloverError. ``struck_out``: from what it makes, secrets have been taken already."""

    name: str
    make: Callable[[], str]
    struck_out: bool = False


class Host(NamedTuple):
    folder: Path
    found: list[vms.Vm]
    hours: float

    def raw(self, name: str) -> Any:
        """The settings as they are written, valid or not. Raises OSError, ValueError."""
        return json.loads(contents_of(self.folder / f"{name}.json", FILE_BYTES_MAX))

    def secrets(self) -> struck_out.Secrets:
        several = []
        for vm in self.found:
            try:
                several.append(self.raw(vm.name))
            except (OSError, ValueError, RecursionError):
                continue  # then they are no part either
        return struck_out.Secrets([values for values in several if isinstance(values, dict)])


def parts(host: Host, secrets: struck_out.Secrets) -> Iterator[Part]:
    yield Part("versions.txt", lambda: _versions(host))
    yield Part("journal.txt", lambda: _journal(host.hours))
    yield Part("units.txt", lambda: output_of(["systemctl", "list-units", "--all", "--full", "--no-pager", "plover-*"], SOON_S, BYTES_MAX))
    yield Part("links.txt", lambda: output_of(["ip", "-d", "link"], SOON_S, BYTES_MAX))
    yield Part("space.txt", lambda: output_of(["df", "-k", "-a", "/run", "/dev/shm", "/var/lib", "/var/log"], SOON_S, BYTES_MAX))
    for vm, reply in zip(host.found, vms.ask_all(host.found)):
        yield from _of_vm(host, vm, reply, secrets)


def _of_vm(host: Host, vm: vms.Vm, reply: Reply, secrets: struck_out.Secrets) -> Iterator[Part]:
    yield Part(f"{vm.name}/status.json", lambda: _json(secrets.value(reply)), struck_out=True)
    yield Part(f"{vm.name}/settings.json", lambda: _settings(host, vm, secrets), struck_out=True)
    yield Part(f"{vm.name}/units.txt", lambda: _units(vm.name))
    config = vm.config
    if config is None:
        return
    yield Part(f"{vm.name}/files.txt", lambda: _files(config))
    newest = config.state_path / "history.jsonl"
    for path in (newest, history.older(newest)):
        if os.path.lexists(path):
            yield Part(f"{vm.name}/{path.name}", _reader(path))


def _reader(path: Path) -> Callable[[], str]:
    return lambda: contents_of(path, 2 * history.BYTES_MAX).decode("utf-8", "replace")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def _settings(host: Host, vm: vms.Vm, secrets: struck_out.Secrets) -> str:
    try:
        values = host.raw(vm.name)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {type(error).__name__}\n"
    if not isinstance(values, dict):
        return "not an object\n"
    # Its error may quote any value, so only the names of the settings are taken from it.
    wrong = [] if vm.config else sorted({key for key in values if f": {key}: " in vm.problem})
    shown = {key: secrets.value(value) for key, value in struck_out.settings(values).items()}
    return _json({**shown, **({"these are wrong": wrong} if wrong else {})})


def _units(name: str) -> str:
    words = ["systemctl", "status", "--full", "--no-pager", "--lines=0", *(f"{unit}@{name}" for unit in UNITS)]
    return without_words(output_of(words, SOON_S, BYTES_MAX))


def without_words(text: str) -> str:
    """The output of `systemctl status` with the programs of processes, but not their words."""
    return _PROCESS.sub(r"\1 ...", text)


def _journal(hours: float) -> str:
    words = ["journalctl", "--no-pager", "--quiet", "--output=short-iso-precise", f"--lines={JOURNAL_LINES_MAX}"]
    return output_of([*words, f"--since=-{max(1, round(60 * hours))}min", "-u", "plover-*"], JOURNAL_S, JOURNAL_BYTES_MAX)


def _files(config: Config) -> str:
    """Modes, sizes, times and names: no contents."""
    paths = (config.run_path, config.state_path, config.log_path, config.ram_path, config.overlay_path)
    here = [str(path) for path in paths if os.path.lexists(path)]
    if not here:
        return "none\n"
    return output_of(["find", *here, "-xdev", "-maxdepth", "4", "-printf", "%M %u:%g %12s %TY-%Tm-%TdT%TH:%TM %p\n"], SOON_S, BYTES_MAX)


def _versions(host: Host) -> str:
    lines = [f"plover {__version__}", f"python {platform.python_version()}", f"kernel {' '.join(os.uname())}", _distribution()]
    for binary in sorted({vm.config.qemu_binary for vm in host.found if vm.config}):
        try:
            said = output_of([binary, "--version"], SOON_S, BYTES_MAX).strip()
        except OSError as error:
            said = str(error.strerror)
        lines.append(f"{binary}: {said}")
    return "\n".join(lines) + "\n"


def _distribution() -> str:
    try:
        return contents_of(os.path.realpath("/etc/os-release"), BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError as error:
        return f"/etc/os-release: {error.strerror}"
