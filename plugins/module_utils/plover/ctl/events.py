# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl events``: the event logs of this host's VMs as one stream, merged by time. Read from files, so it needs no daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..host import history
from ..host.console import complain, say, until_enough
from ..host.history_tail import Tail
from . import vms

LOOK_S = 0.5


class Happened(NamedTuple):
    vm: str
    entry: dict[str, Any]

    @property
    def at(self) -> float:
        return history.seconds_of(self.entry["at"])


class Stream:
    def __init__(self, folder: Path, name: str | None) -> None:
        """Of one VM, or of all VMs of this host. Raises ConfigError if that one's settings cannot be used."""
        self._folder, self._all = folder, name is None
        self._tails: dict[str, Tail | None] = {}  # None: its settings cannot be used
        self._damaged: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        for vm in vms.found(folder, name):
            self._add(vm)

    @property
    def names(self) -> list[str]:
        return list(self._tails)

    @property
    def failed(self) -> bool:
        """Is there a VM whose events cannot be read?"""
        return any(self._errors.values())

    def _add(self, vm: vms.Vm) -> None:
        self._tails[vm.name] = Tail(vm.config.state_path) if vm.config else None
        self._tell(vm.name, vm.problem)

    def _tell(self, name: str, error: str) -> None:
        """Complain once about each error."""
        if error and error != self._errors.get(name):
            complain(f"ploverctl: {error}")
        self._errors[name] = error

    def look(self) -> list[Happened]:
        """What came since the last look, oldest first: at the first look all that there is."""
        if self._all:  # a VM may have come
            for name in vms.names(self._folder):
                if name not in self._tails:
                    self._add(vms.named(self._folder, name))
        new = [Happened(name, entry) for name, tail in self._tails.items() if tail for entry in self._read(name, tail)]
        return sorted(new, key=lambda one: one.at)

    def _read(self, name: str, tail: Tail) -> list[dict[str, Any]]:
        try:
            entries = tail.look()
        except OSError as error:
            self._tell(name, f"{error.filename or name}: {error.strerror}")
            return []
        self._tell(name, "")
        damaged = tail.damaged - self._damaged.get(name, 0)
        if damaged:
            self._damaged[name] = tail.damaged
            complain(f"ploverctl: {name}: {damaged} damaged lines passed over")
        return entries


def _as_json(one: Happened) -> str:
    return json.dumps({"vm": one.vm, **{key: value for key, value in one.entry.items() if key != "vm"}})


def _as_text(width: int) -> Callable[[Happened], str]:
    """``width`` of the VMs' names; 0: they are left out."""
    return lambda one: (f"{one.vm:<{width}}  " if width else "") + history.line_of(one.entry)


def _news(stream: Stream, count: int, follow: bool) -> Iterator[Happened]:
    yield from stream.look()[-max(1, count) :]
    while follow:
        time.sleep(LOOK_S)
        yield from stream.look()


def events(folder: Path, name: str | None, count: int, follow: bool, as_json: bool) -> int:
    stream = Stream(folder, name)
    if not stream.names and not follow:
        complain(f"ploverctl: no VM in {folder}, so there are no events")
    width = 0 if name else max(map(len, stream.names), default=0)
    line = _as_json if as_json else _as_text(width)
    code = 0
    with until_enough():
        for one in _news(stream, count, follow):
            say(line(one))
        code = 1 if stream.failed else 0
    return code
