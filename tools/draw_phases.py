# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the tables of phases (syncvm/phases.py) into docs/syncvm.md: `python3 tools/draw_phases.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "plugins" / "module_utils"))

from plover.syncvm import phases  # noqa: E402
from plover.syncvm.phase_machine import Event, Phase, Table  # noqa: E402

DOCUMENT = ROOT / "docs" / "syncvm.md"
BEGIN, END = "<!-- phases: drawn by tools/draw_phases.py -->\n", "<!-- end of phases -->\n"
SIDES = (
    ("A syncvm, the leader", phases.LEADER),
    ("A syncvm, the secondary", phases.SECONDARY),
    ("An initial sync, the leader", phases.LEADER_SYNC),
    ("An initial sync, the new secondary", phases.SECONDARY_SYNC),
)


def event_text(event: Event) -> str:
    return f"◀ {event.text}" if event.by_peer else event.text


def drawn(table: Table) -> str:
    """A line for each phase with what its side does, and under it the ways out of it."""
    width = max(map(len, table)) + 2
    out = []
    for phase, after in table.items():
        out.append(f"{phase:{width}}{phase.does}")
        stays = [event_text(event) for event, to in after.items() if to == phase]
        leaves: dict[Phase, list[str]] = {}
        for event, to in after.items():
            if to != phase:
                leaves.setdefault(to, []).append(event_text(event))
        out += [f"{'':{width}}{' or '.join(events)} ─▶ {to}" for to, events in leaves.items()]
        out += [f"{'':{width}}stays: {', '.join(stays)}"] if stays else []
    return "\n".join(out)


def drawing() -> str:
    parts = (f"{title}:\n\n```\n{drawn(table)}\n```\n" for title, table in SIDES)
    return BEGIN + "\n" + "\n".join(parts) + "\n" + END


def updated(text: str) -> str:
    """The document with its drawing updated from the tables."""
    before, rest = text.split(BEGIN)
    return before + drawing() + rest.split(END)[1]


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
