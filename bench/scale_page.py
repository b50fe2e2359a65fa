# SPDX-License-Identifier: GPL-3.0-or-later
"""`build/bench/scale.html`: the figures of `make bench-scale` on one self-contained page."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment

from .scale_figures import Run, alike, by_mib, by_pages, cell_key, cells, middle, number, part

WIDTH, HEIGHT, LEFT, BOTTOM = 480, 240, 60, 30
PARTS = {
    "leader": ("stop", "fetch_dirty", "pack_bitmap", "union", "hash", "compare", "gather", "save_device", "holder_note"),
    "secondary": ("colo_stop", "fetch_dirty", "union", "hash", "patched", "apply", "colo_load"),
}
TEMPLATE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>What a syncvm costs</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin: 2.5rem 0 .5rem } svg { max-width: 100%; font-size: 11px } .axis { stroke: #999 } .line { stroke: #0b7a5c }
circle { fill: #0b7a5c; fill-opacity: .5 } .plots { display: flex; flex-wrap: wrap; gap: 1rem }
.row { display: grid; grid-template-columns: 20rem 1fr 6rem; gap: .5rem; align-items: center; line-height: 1.7 }
.bar { height: .9rem; background: #0b7a5c; border-radius: 2px; min-width: 1px } .number { text-align: right }
table { border-collapse: collapse; font-size: 13px } .missed { color: #b00; font-weight: 600 }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
</style>
<h1>What a syncvm costs</h1>
<p>{{ about }}</p>
<p>The pause of the leader's VM, without the time for which it waits until the secondary's VM is idle:
<b>{{ per_page }} µs per dirty page</b>, <b>{{ per_mib }} ns per MiB of guest RAM</b> (least squares through the medians).
{{ skipped }}</p>
<div class="plots">{% for plot in plots %}
<div><h2>{{ plot.title }}</h2>
<svg viewBox="0 0 {{ width }} {{ height }}" width="{{ width }}" height="{{ height }}" role="img">
<line class="axis" x1="{{ left }}" y1="{{ base }}" x2="{{ width }}" y2="{{ base }}"/>
<line class="axis" x1="{{ left }}" y1="0" x2="{{ left }}" y2="{{ base }}"/>
<polyline class="line" fill="none" points="{{ plot.line }}"/>{% for dot in plot.dots %}
<circle cx="{{ dot.x }}" cy="{{ dot.y }}" r="3"><title>{{ dot.text }}</title></circle>{% endfor %}
<text x="{{ width }}" y="{{ height - 8 }}" text-anchor="end">{{ plot.x_max }}</text>
<text x="{{ left }}" y="{{ height - 8 }}">0 {{ plot.x_name }}</text>
<text x="{{ left - 5 }}" y="12" text-anchor="end">{{ plot.y_max }} ms</text>
</svg></div>{% endfor %}
</div>
<h2>The pause of each cell</h2>{% for bar in bars %}
<div class="row"><span>{{ bar.name }}</span><div class="bar" style="width: {{ bar.percent }}%"></div>
<span class="number">{{ bar.value }} ms</span></div>{% endfor %}
<h2>Parts of it</h2>
<p>Milliseconds, medians; both sides work at the same time, and saving the device state at the same time as hashing.</p>
<table><tr><th>cell</th>{% for name in part_names %}<th>{{ name }}</th>{% endfor %}</tr>{% for row in parts %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table>
<h2>Memory</h2>
<table><tr><th>what</th><th>MiB</th><th>limit</th><th></th></tr>{% for row in checks %}
<tr><td>{{ row.what }}</td><td>{{ row.mib }}</td><td>{{ row.limit_mib }}</td>
<td{% if not row.met %} class="missed"{% endif %}>{{ "met" if row.met else "MISSED" }}</td></tr>{% endfor %}
</table>
<p>Each syncvm is in <code>scale.json</code>.</p>
</html>
"""


def page(result: dict[str, Any], about: str) -> str:
    runs, found = result["runs"], result["slopes"]
    plots = [plot("By dirty pages", "dirty pages", by_pages(runs), "dirty_pages"), plot("By guest RAM", "MiB", by_mib(runs), "mib")]
    part_names = [f"{side} {name}" for side in PARTS for name in PARTS[side]]
    parts = [[cell_key(cell[0]), *(f"{part(cell, *name.split()):.2f}" for name in part_names)] for cell in map(alike, cells(runs))]
    return (
        Environment(autoescape=True)
        .from_string(TEMPLATE)
        .render(
            about=about,
            per_page=number(found["us_per_dirty_page"]),
            per_mib=number(found["ns_per_mib"]),
            plots=plots,
            skipped="; ".join(result["skipped"]),
            bars=bars(runs),
            part_names=part_names,
            parts=parts,
            checks=result["memory"]["checks"],
            width=WIDTH,
            height=HEIGHT,
            left=LEFT,
            base=HEIGHT - BOTTOM,
        )
    )


def plot(title: str, x_name: str, chosen: list[list[Run]], x: str) -> dict[str, Any]:
    """A dot for each syncvm, a line through the medians."""
    every = [run for cell in chosen for run in cell]
    x_max, y_max = (max((run[key] for run in every), default=0) or 1 for key in (x, "work_ms"))

    def place(at: float, ms: float) -> tuple[float, float]:
        return round(LEFT + at / x_max * (WIDTH - LEFT - 6), 1), round((HEIGHT - BOTTOM) * (1 - ms / y_max) * 0.95 + 6, 1)

    spots = [(place(run[x], run["work_ms"]), f"{run[x]:,} {x_name}: {run['work_ms']} ms") for run in every]
    medians = sorted(place(middle(cell, x), middle(cell, "work_ms")) for cell in map(alike, chosen))
    return {
        "title": title,
        "x_name": x_name,
        "x_max": f"{x_max:,}",
        "y_max": f"{y_max:.1f}",
        "dots": [{"x": at[0], "y": at[1], "text": text} for at, text in spots],
        "line": " ".join(f"{at},{ms}" for at, ms in medians),
    }


def bars(runs: list[Run]) -> list[dict[str, Any]]:
    """The longest has 100 %."""
    figures = {cell_key(cell[0]): middle(cell, "work_ms") for cell in map(alike, cells(runs))}
    longest = max(figures.values()) or 1
    return [{"name": name, "value": f"{ms:.2f}", "percent": round(100 * ms / longest, 1)} for name, ms in figures.items()]
