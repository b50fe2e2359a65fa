# SPDX-License-Identifier: GPL-3.0-or-later
"""`build/bench/report.html`: the figures of `make bench-services` on one self-contained page."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

from jinja2 import Environment

Run = dict[str, Any]


class Plot(NamedTuple):
    key: str
    title: str
    unit: str
    better: str


PLOTS = (
    Plot("requests_per_s", "Requests", "/s", "longer is better"),
    Plot("p50_ms", "Latency, median", "ms", "shorter is better"),
    Plot("p99_ms", "Latency, 99 %", "ms", "shorter is better"),
    Plot("wire_bytes_per_request", "Bytes between the hosts", "B per request", "shorter is better"),
    Plot("pause_p50_ms", "Pause of the VM, median", "ms", "shorter is better"),
    Plot("cpu_us_per_request", "CPU time of all three hosts", "µs per request", "shorter is better"),
)
FIGURES = (
    "requests_per_s",
    "p50_ms",
    "p99_ms",
    "wire_bytes_per_request",
    "cpu_us_per_request",
    "syncvms",
    "interval_p50_ms",
    "pause_p50_ms",
    "pause_p99_ms",
    "dirty_pages_p50",
    "same_page_percent",
)
TEMPLATE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>What protection costs</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin: 2.5rem 0 .5rem } h3 { margin: 1rem 0 .2rem; font-size: 1rem } h3 small { font-weight: normal; color: #666 }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 0 2rem }
.row { display: grid; grid-template-columns: 7rem 1fr 6rem; gap: .5rem; align-items: center; line-height: 1.7 }
.bar { height: .9rem; background: #9aa5b1; border-radius: 2px; min-width: 1px } .plover .bar { background: #0b7a5c }
.plover { font-weight: 600 } .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
table { border-collapse: collapse; font-size: 13px }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
</style>
<h1>What protection costs a service</h1>
<p>{{ about }}</p>
<h2>In one line each</h2>
<table>{% for name, value in ratios.items() %}
<tr><td>{{ name }}</td><td>{{ "%.3f"|format(value) if value is not none else "not measured" }}</td></tr>{% endfor %}
</table>
<p>Plover divided by the other, geometric mean over the workloads of throughput at 1 Gbit/s for which both have figures. Added
latency: of one client that waits for each answer, beside no protection. {{ notes }}</p>
{% for case in cases %}
<h2>{{ case.title }}</h2>
<div class="plots">{% for plot in case.plots %}
<div><h3>{{ plot.title }} <small>{{ plot.unit }}, {{ plot.better }}</small></h3>{% for bar in plot.bars %}
<div class="row {{ bar.mode }}"><span>{{ bar.mode }}</span><div class="bar" style="width: {{ bar.percent }}%"
 title="{{ bar.least }} to {{ bar.most }}"></div><span class="number">{{ bar.value }}</span></div>{% endfor %}
</div>{% endfor %}
</div>{% endfor %}
<h2>All figures</h2>
<p>Medians over the rounds; each round is in <code>services.json</code>.</p>
<table><tr><th>case</th><th>mode</th>{% for name in figures %}<th>{{ name }}</th>{% endfor %}</tr>{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table>
</html>
"""


def page(runs: list[Run], ratios: dict[str, float | None], modes: list[str], about: str, notes: str) -> str:
    """HTML. ``modes``: in the order in which they are shown."""
    names = sorted({(run["vcpus"], run["mbit_per_s"], run["workload"]) for run in runs})
    cases, rows = [], []
    for name in names:
        of_case = [run for run in runs if (run["vcpus"], run["mbit_per_s"], run["workload"]) == name]
        title = f"{name[2]}, {name[0]} vCPU, {name[1] / 1000:g} Gbit/s"
        shown = [mode for mode in modes if any(run["mode"] == mode for run in of_case)]
        plots = [{**plot._asdict(), "bars": bars(of_case, plot.key, shown)} for plot in PLOTS]
        cases.append({"title": title, "plots": [plot for plot in plots if plot["bars"]]})
        rows += [[title, mode, *(text(middle(of_case, key, mode=mode)) for key in FIGURES)] for mode in shown]
    environment = Environment(autoescape=True)
    return environment.from_string(TEMPLATE).render(cases=cases, rows=rows, figures=FIGURES, ratios=ratios, about=about, notes=notes)


def bars(runs: list[Run], key: str, modes: list[str]) -> list[dict[str, Any]]:
    """One for each mode that has the figure; the longest has 100 %."""
    found = {mode: values(runs, key, mode=mode) for mode in modes}
    found = {mode: figures for mode, figures in found.items() if figures}
    medians = {mode: statistics.median(figures) for mode, figures in found.items()}
    longest = max(medians.values(), default=0) or 1
    return [
        {
            "mode": mode,
            "value": text(medians[mode]),
            "least": text(min(figures)),
            "most": text(max(figures)),
            "percent": round(100 * medians[mode] / longest, 1),
        }
        for mode, figures in found.items()
    ]


def values(runs: list[Run], key: str, **labels: Any) -> list[float]:
    """Of the runs with these labels that have the figure."""
    return [run[key] for run in runs if all(run[k] == v for k, v in labels.items()) and run.get(key) is not None]


def middle(runs: list[Run], key: str, **labels: Any) -> float | None:
    """Median over the rounds."""
    found = values(runs, key, **labels)
    return statistics.median(found) if found else None


def text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
