# SPDX-License-Identifier: GPL-3.0-or-later
"""`build/soak/soak.html`: a plot for each figure, on one self-contained page. Pure."""

from __future__ import annotations

from collections import defaultdict
from html import escape

from .judge import LIMITS, Sample

WIDTH, HEIGHT, LEFT, BOTTOM = 520, 200, 70, 24
COLOURS = ("#0b7a5c", "#b0561f", "#3b5b9d", "#8a3d8f", "#6b6b1e", "#a02c2c", "#2c8a8a")
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}svg{font-size:11px;max-width:100%}"
    ".axis{stroke:#999}.event{stroke:#ddd}.plots{display:flex;flex-wrap:wrap;gap:1rem}pre{font-size:12px;overflow-x:auto}"
)


def page(samples: list[Sample], events: list[tuple[float, str]], table: str) -> str:
    """``events``: (seconds, what) of each round."""
    figures = [figure for figure in LIMITS if any(figure in sample.figures for sample in samples)]
    plots = "".join(_plot(figure, samples, events) for figure in figures)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Soak</title><style>{STYLE}</style><h1>Soak</h1>'
        f"<p>A line for each process; a grey line for each switchover or fault.</p>"
        f'<div class="plots">{plots}</div><pre>{escape(table)}</pre></html>\n'
    )


def _plot(figure: str, samples: list[Sample], events: list[tuple[float, str]]) -> str:
    lives: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        if figure in sample.figures:
            lives[sample.who, sample.pid].append((sample.at, sample.figures[figure]))
    end = max(at for points in lives.values() for at, _value in points) or 1.0
    top = max(value for points in lives.values() for _at, value in points) or 1.0
    names = sorted({who for who, _pid in lives})

    def x(at: float) -> float:
        return round(LEFT + (WIDTH - LEFT) * at / end, 1)

    def y(value: float) -> float:
        return round((HEIGHT - BOTTOM) * (1 - 0.95 * value / top), 1)

    base, size = HEIGHT - BOTTOM, f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    marks = "".join(f"{_line('event', x(at), 0, x(at), base, what)}" for at, what in events)
    lines = ""
    for (who, pid), points in sorted(lives.items()):
        colour, way = COLOURS[names.index(who) % len(COLOURS)], " ".join(f"{x(at)},{y(value)}" for at, value in points)
        lines += f'<polyline fill="none" stroke="{colour}" points="{way}"><title>{escape(who)} {pid}</title></polyline>'
    keys = " ".join(f'<span style="color:{COLOURS[n % len(COLOURS)]}">{escape(who)}</span>' for n, who in enumerate(names))
    axes = _line("axis", LEFT, base, WIDTH, base) + _line("axis", LEFT, 0, LEFT, base)
    return (
        f"<div><h2>{figure}</h2><p>{escape(LIMITS[figure].why)}</p><svg {size}>{axes}{marks}{lines}"
        f'<text x="{LEFT - 5}" y="12" text-anchor="end">{top / 0.95:.0f} {LIMITS[figure].unit}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 8}" text-anchor="end">{end:.0f} s</text></svg><p>{keys}</p></div>'
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, title: str = "") -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"><title>{escape(title)}</title></line>'
