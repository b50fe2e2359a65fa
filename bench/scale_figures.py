# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes of the syncvms that `make bench-scale` measured: slopes, checks of memory, a table. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

Run = dict[str, Any]
DIVERGENT_MIN, DIVERGENT_SHARE = 500, 0.05  # so many pages differ at most where both VMs have done the same
SHARE_MAX, FIXED_MIB = 0.05, 64.0  # private memory: of the guest's RAM, and what Python and its libraries take


def cell_key(run: Run) -> str:
    return f"{run['mib']} MiB, {run['vcpus']} vCPU, {run['pages']} pages written"


def cells(runs: list[Run]) -> list[list[Run]]:
    """The runs of each cell, in the order in which they were measured."""
    out: dict[str, list[Run]] = {}
    for run in runs:
        out.setdefault(cell_key(run), []).append(run)
    return list(out.values())


def middle(runs: list[Run], key: str) -> float:
    """Not a number if no run has it."""
    return statistics.median([run[key] for run in runs if run[key] is not None] or [math.nan])


def part(runs: list[Run], side: str, name: str) -> float:
    return statistics.median(run["parts_ms"][side].get(name, 0.0) for run in runs)


def by_pages(runs: list[Run]) -> list[list[Run]]:
    """The cells that differ in what was written and nothing else: of the guest in which the most was."""
    of_most = max(runs, key=lambda run: run["pages"])
    return [cell for cell in cells(runs) if all(cell[0][key] == of_most[key] for key in ("mib", "vcpus"))]


def by_mib(runs: list[Run]) -> list[list[Run]]:
    """The cells that differ in the guest's RAM and nothing else."""
    return [cell for cell in cells(runs) if (cell[0]["vcpus"], cell[0]["pages"]) == (1, 0)]


def alike(runs: list[Run]) -> list[Run]:
    """The runs in which both VMs had done the writes, and all of them; all runs if there is none.

    On a machine that is full a VM that gets no CPU is taken for an idle one, and then most of its pages differ.
    """
    return [run for run in runs if not differs(run)] or runs


def differs(run: Run) -> bool:
    same = run["divergent_pages"] <= max(DIVERGENT_MIN, DIVERGENT_SHARE * run["dirty_pages"])
    return not same or run["dirty_pages"] < run["pages"]


def slope(chosen: list[list[Run]], x: str, y: Callable[[list[Run]], float]) -> float | None:
    """Least squares through the medians of the cells' runs that are alike; None of fewer than two cells."""
    points = [(middle(cell, x), y(cell)) for cell in map(alike, chosen)]
    if len({x for x, _ in points}) < 2:
        return None
    return statistics.linear_regression(*zip(*points)).slope


def slopes(runs: list[Run]) -> dict[str, Any]:
    """Of the pause, less the wait for the secondary's VM; and of each part by itself."""

    def both(y: Callable[[list[Run]], float]) -> dict[str, float | None]:
        per_page, per_mib = slope(by_pages(runs), "dirty_pages", y), slope(by_mib(runs), "mib", y)
        return {"us_per_dirty_page": per_page and round(1e3 * per_page, 4), "ns_per_mib": per_mib and round(1e6 * per_mib, 1)}

    names = {side: sorted({name for run in runs for name in run["parts_ms"][side]}) for side in ("leader", "secondary")}
    return {
        **both(lambda cell: middle(cell, "work_ms")),
        "us_per_divergent_page": per_divergent_page(runs),
        "until_staged": both(lambda cell: middle(cell, "staged_ms")),
        "parts": {f"{side} {name}": both(lambda cell, s=side, n=name: part(cell, s, n)) for side in names for name in names[side]},
    }


def per_divergent_page(runs: list[Run]) -> float | None:
    """What a page that differs costs beyond one that is only dirty: from the runs that were not alike. None without any."""
    cells_of_guest = by_pages(runs)
    per_page = slope(cells_of_guest, "dirty_pages", lambda cell: middle(cell, "work_ms"))
    few = alike(min(cells_of_guest, key=lambda cell: cell[0]["pages"]))
    extra = [
        (run["work_ms"] - middle(few, "work_ms") - per_page * (run["dirty_pages"] - middle(few, "dirty_pages"))) / run["divergent_pages"]
        for cell in cells_of_guest
        for run in cell
        if per_page is not None and run["divergent_pages"] > DIVERGENT_MIN
    ]
    return round(1e3 * statistics.median(extra), 3) if extra else None


def memory_checks(guests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row each: the name, the figure and the limit in MiB, and whether the limit is met."""
    out = []
    for guest in guests:
        label, took = f"{guest['mib']} MiB, {guest['vcpus']} vCPU", guest["processes"]
        limit = SHARE_MAX * guest["mib"] + FIXED_MIB
        for host in ("primary", "secondary"):
            private = max(took[f"{host} daemon"]["private"], guest["peak_anonymous_mib"][f"{host} daemon"])
            out.append(check(f"{label}: {host} daemon's private memory", private, limit))
        secondary, primary = (sum(took[f"{host} {what}"]["private"] for what in ("daemon", "qemu")) for host in ("secondary", "primary"))
        out.append(check(f"{label}: secondary's private memory beyond the primary's", secondary - primary, limit))
        out.append(check(f"{label}: secondary's RAM file", guest["ram_file_mib"]["secondary"], guest["mib"]))
    return out


def check(what: str, mib: float, limit: float) -> dict[str, Any]:
    return {"what": what, "mib": round(mib, 1), "limit_mib": round(limit, 1), "met": mib <= limit}


def table(result: dict[str, Any]) -> list[str]:
    runs = result["runs"]
    out = [
        "",
        f"{'':42} {'dirty':>7} {'divergent':>9} {'bytes':>9} {'work ms (least, most)':>28} {'stood ms':>9} "
        f"{'staged ms':>9} {'waited ms':>9} alike",
    ]
    for every in cells(runs):
        cell = alike(every)
        work = [run["work_ms"] for run in cell]
        spread = f"{statistics.median(work):.2f} ({min(work):.2f}, {max(work):.2f})"
        out.append(
            f"{cell_key(cell[0]):42} {middle(cell, 'dirty_pages'):7,.0f} {middle(cell, 'divergent_pages'):9,.0f} "
            f"{middle(cell, 'bytes'):9,.0f} {spread:>28} {middle(cell, 'stood_ms'):9.2f} "
            f"{middle(cell, 'staged_ms'):9.2f} {middle(cell, 'waited_ms'):9.2f} {len(cell)}/{len(every)}"
        )
    found = result["slopes"]
    out += [
        "",
        "waited: for the secondary's VM to be idle; the others without that. work: the pause as the runtime counts",
        "it; stood: between QEMU's own events STOP and RESUME; staged: until output may leave; alike: runs in which",
        "the secondary's VM had done the same (they alone are in this table and in the slopes).",
        "",
        f"us_per_dirty_page: {number(found['us_per_dirty_page'])}",
        f"ns_per_mib: {number(found['ns_per_mib'])}",
        f"us_per_divergent_page: {number(found['us_per_divergent_page'])}",
        "",
        f"{'part':28} {'µs per dirty page':>18} {'ns per MiB':>12} {'ms in the largest cell':>23}",
    ]
    largest = max(map(alike, cells(runs)), key=lambda cell: (cell[0]["pages"], cell[0]["mib"]))
    for name, row in sorted(found["parts"].items()):
        side, what = name.split()
        out.append(f"{name:28} {number(row['us_per_dirty_page']):>18} {number(row['ns_per_mib']):>12} {part(largest, side, what):23.2f}")
    return out + ["", *memory_table(result["memory"]), *result["skipped"]]


def memory_table(memory: dict[str, Any]) -> list[str]:
    out = [f"{'MiB':24} {'process':18} {'private':>8} {'peak':>8} {'in audit':>8} {'RAM mapped':>10}"]
    for guest in memory["guests"]:
        for name, took in guest["processes"].items():
            out.append(
                f"{guest['mib']:5} MiB, {guest['vcpus']} vCPU{'':9} {name:18} {took['private']:8.1f} "
                f"{guest['peak_anonymous_mib'][name]:8.1f} {guest['audit_peak_anonymous_mib'][name]:8.1f} "
                f"{took['ram']:10.1f}"
            )
    out += ["peak, in audit: anonymous memory", ""]
    for guest in memory["guests"]:
        files = ", ".join(f"{host} {mib:,.0f} MiB" for host, mib in guest["ram_file_mib"].items())
        out.append(f"{guest['mib']} MiB, {guest['vcpus']} vCPU: the RAM files take {files}")
    return [
        *out,
        "",
        *(
            f"{row['what']}: {row['mib']:.1f} MiB, limit {row['limit_mib']:.1f}: {'met' if row['met'] else 'MISSED'}"
            for row in memory["checks"]
        ),
    ]


def number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.3f}"
