# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl top``: this host's VMs, and those of other hosts that are named, in a table drawn by rich. Nothing else of the runtime
needs that library: it is imported here."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..core.status import DEGRADED, DOWN, OFF, PROTECTED
from ..errors import ConfigError
from ..host.console import until_enough
from . import vms
from .figures import FIGURES, WHO, Column, Look, Pair, summary
from .other_hosts import OtherHosts
from .reply import NO_ANSWER, sentence, service_of, text

COLOURS = {PROTECTED: "green", DEGRADED: "yellow", OFF: "dim", DOWN: "bold red", NO_ANSWER: "bold red"}
PIPE_WIDTH = 240  # nobody folds the lines of a file
ONE_TABLE_WIDTH = 130  # a narrower terminal gets two tables


class Looks:
    """The last two looks at each VM."""

    def __init__(self, folder: Path, name: str | None, others: OtherHosts) -> None:
        self._folder, self._others = folder, others
        # A VM of another host need not be one of this host, too.
        self._name, self._here = name, not (others and name and name not in vms.names(folder))
        self._pairs: dict[str, Pair] = {}

    def look(self) -> dict[str, Pair]:
        with ThreadPoolExecutor(1, "others") as thread:
            asked = thread.submit(self._others.ask_all)
            found = vms.found(self._folder, self._name) if self._here else []
            rows = [(vm.name, reply) for vm, reply in zip(found, vms.ask_all(found))]
            rows += asked.result()
        now, before = time.monotonic(), self._pairs
        self._pairs = {name: Pair(Look(now, reply), before[name].now if name in before else None) for name, reply in rows}
        return self._pairs


def top(folder: Path, name: str | None, interval_s: float, once: bool, others: OtherHosts) -> int:
    console, looks = _console(), Looks(folder, name, others)
    with until_enough():
        if once or not console.is_terminal or console.is_dumb_terminal:
            looks.look()
            time.sleep(interval_s)
            console.print(frame(looks.look(), console.width, folder))
        else:
            _live(console, looks, interval_s, folder)
    return 0


def _console() -> Any:
    """Raises ConfigError without rich."""
    try:
        from rich.console import Console
    except ImportError as error:
        raise ConfigError(f"top draws with rich, which cannot be imported ({error}); install the package python3-rich") from None
    tty = sys.stdout.isatty()
    return Console(force_terminal=tty, width=None if tty or "COLUMNS" in os.environ else PIPE_WIDTH, highlight=False)


def _live(console: Any, looks: Looks, interval_s: float, folder: Path) -> None:
    from rich.live import Live

    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(frame(looks.look(), console.width, folder), refresh=True)
            time.sleep(interval_s)


def frame(pairs: dict[str, Pair], width: int, folder: Path) -> Any:
    from rich.console import Group
    from rich.text import Text

    if not pairs:
        return Text(f"no VM in {folder}")
    head = Text(f"{time.strftime('%H:%M:%S')}  {summary([pair.now.reply for pair in pairs.values()])}")
    columns = [(*WHO, *FIGURES)] if width >= ONE_TABLE_WIDTH else [WHO, FIGURES]
    return Group(head, *(_table(pairs, part) for part in columns), _sentences(pairs))


def _table(pairs: dict[str, Pair], columns: tuple[Column, ...]) -> Any:
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    out.add_column("vm", no_wrap=True)
    for column in columns:
        out.add_column(column.name, justify="right" if column.right else "left")
    for name, pair in pairs.items():
        cells = [Text(column.cell(pair), style=_colour(column, pair)) for column in columns]
        out.add_row(Text(text({"": name}, "")), *cells)
    return out


def _colour(column: Column, pair: Pair) -> str:
    """Only of the service: its word says the same."""
    return COLOURS[service_of(pair.now.reply)] if column is WHO[0] else ""


def _sentences(pairs: dict[str, Pair]) -> Any:
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    out.add_column("vm", no_wrap=True)
    out.add_column("what it does")
    for name, pair in pairs.items():
        out.add_row(Text(text({"": name}, "")), Text(sentence(pair.now.reply)))
    return out
