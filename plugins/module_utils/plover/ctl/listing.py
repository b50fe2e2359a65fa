# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl list``: one line per VM of this host. Pure."""

from __future__ import annotations

from ..host import history
from .reply import Reply, number, sentence, service_of, text

HEADER = ("vm", "service", "role", "leader", "view", "for", "what it does")
MORE = "…"
SENTENCE_MIN = 10  # a terminal that leaves less room gets longer lines


def _cells(name: str, reply: Reply) -> tuple[str, ...]:
    view, since_s = number(reply, "view"), number(reply, "since")
    return (
        text({"": name}, ""),
        service_of(reply),
        text(reply, "role") or "-",
        text(reply, "leader") or "-",
        "-" if view is None else f"{view:.0f}",
        "-" if since_s is None else history.duration(max(0.0, since_s)),
        sentence(reply),
    )


def lines(vms: list[tuple[str, Reply]], width: int | None) -> list[str]:
    """``width``: the terminal's; None: sentences are not shortened."""
    rows = [HEADER, *(_cells(name, reply) for name, reply in vms)]
    widths = [max(map(len, column)) for column in zip(*rows)][:-1]
    room = None if width is None else max(SENTENCE_MIN, width - sum(widths) - 2 * len(widths))
    return ["  ".join([*(f"{cell:<{size}}" for cell, size in zip(row, widths)), shortened(row[-1], room)]).rstrip() for row in rows]


def shortened(words: str, room: int | None) -> str:
    return words if room is None or len(words) <= room else words[: room - 1].rstrip() + MORE
