# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-services`: what protection costs a service, compared with none, Remus-like checkpoints, and QEMU's COLO.

One run on one machine, with a network and process namespace of its own: three hosts (hosts.py), the lab's guests, real
clients. A round takes every system in turn, from its start to an audit of both memories (and disks); each round begins with
another system. Each load runs for a moment before it is measured. A system that fails loses its figures
of that round, and the run goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lab.paths import BUILD

from . import colo, costs, hosts, inside, packages, report, tables
from .groups import COMPARED, SYSTEMS, Group
from .guests import GUESTS, folder_of_disks, guest
from .load import BenchError
from .machine import cpu_model
from .report import middle
from .workloads import WORKLOADS, Turns

RATIO_MBIT_PER_S = 1_000
SINGLE = (1, RATIO_MBIT_PER_S)  # vCPUs, Mbit/s: the case of workloads that are not about throughput
Run = dict[str, Any]


class Plan(NamedTuple):
    """What a guest's workloads are run with, unless the options say otherwise; ``cases``: (vCPUs, Mbit/s)."""

    cases: tuple[tuple[int, int], ...]
    seconds: float


PLAN = {
    "memory": Plan(((1, 1_000), (2, 1_000), (1, 10_000)), 3.0),
    "disk": Plan(((1, 1_000),), 6.0),
}  # one case, as its disk is copied each time; longer, as its transactions are few


def main() -> int:
    options = parse(sys.argv[1:])
    wanted = [name for name in GUESTS if any(WORKLOADS[workload].guest == name for workload in options.workloads)]
    prepare = (packages.tree, colo.library, *(partial(guest, name) for name in wanted))
    if (status := inside.run("bench.services", lambda: [make() for make in prepare])) is not None:
        return status
    hosts.make()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        if "disk" in wanted:
            tables.make()
    except BenchError as error:
        print(f"bench-services: {error}", file=sys.stderr)
        return 1
    runs, failures = measure(options, wanted)
    print(
        "\n".join(
            [
                *table(runs),
                *costs.table(runs, os.cpu_count() or 1),
                *(f"{name}: {value and round(value, 3)}" for name, value in ratios(runs).items()),
            ]
        )
    )
    for failure in failures:
        print(f"FAILED: {failed(failure)}", file=sys.stderr)
    return 1 if any(failure["mode"] != "colo" for failure in failures) else 0  # QEMU's own COLO mode is not ours to mend


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.services", description=__doc__.splitlines()[0])
    several = {"type": lambda text: text.split(",")}
    parser.add_argument("--systems", default=list(COMPARED), **several)
    parser.add_argument("--workloads", default=list(WORKLOADS), **several)
    parser.add_argument("--vcpus", default=[], **several)
    parser.add_argument("--mbit-per-s", default=[], **several)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="measured time of one load, about")
    parser.add_argument("--out", type=Path, default=BUILD / "bench")
    options = parser.parse_args(arguments)
    unknown = (set(options.systems) - set(SYSTEMS)) | (set(options.workloads) - set(WORKLOADS))
    numbers = all(number.isdigit() for number in options.vcpus + options.mbit_per_s)
    seconds = 1.0 if options.seconds is None else options.seconds
    if unknown or options.rounds < 1 or seconds <= 0 or not numbers:
        parser.error(f"systems are {', '.join(SYSTEMS)}; workloads are {', '.join(WORKLOADS)}; numbers must be positive")
    return options


# ---- measuring ---------------------------------------------------------------------------------------------------
def measure(options: argparse.Namespace, wanted: list[str]) -> tuple[list[Run], list[Run]]:
    """Runs and failures; both are in the files after each group."""
    runs: list[Run] = []
    failures: list[Run] = []
    for labels in groups(options, wanted):
        hosts.shape(labels["mbit_per_s"])
        try:
            runs += one_group(labels, options)
        except BenchError as error:
            failures.append({**labels, "error": str(error)})
            print(f"FAILED: {failed(failures[-1])}", file=sys.stderr, flush=True)
        write(options, runs, failures)
    return runs, failures


def cases(options: argparse.Namespace, plan: Plan) -> list[tuple[int, int]]:
    """(vCPUs, Mbit/s): the plan's; of what an option names, all with all."""
    if not options.vcpus and not options.mbit_per_s:
        return list(plan.cases)
    vcpus, rates = ({case[at] for case in plan.cases} for at in (0, 1))
    return sorted(itertools.product(set(map(int, options.vcpus)) or vcpus, set(map(int, options.mbit_per_s)) or rates))


def groups(options: argparse.Namespace, wanted: list[str]) -> Iterator[Run]:
    """Labels of each group, in the order in which they are started."""
    for name in wanted:
        for vcpus, mbit_per_s in cases(options, PLAN[name]):
            for number in range(options.rounds):
                shift = number % len(options.systems)
                for mode in options.systems[shift:] + options.systems[:shift]:
                    if mode != "colo" or name != "disk":  # it is set up without disks
                        yield {"mode": mode, "guest": name, "vcpus": vcpus, "mbit_per_s": mbit_per_s, "round": number}


def one_group(labels: Run, options: argparse.Namespace) -> list[Run]:
    out, seconds = [], options.seconds or PLAN[labels["guest"]].seconds
    with tempfile.TemporaryDirectory(prefix="plover-bench-", dir="/dev/shm") as folder, folder_of_disks() as disks:
        group = Group(labels["mode"], Path(folder), labels["vcpus"], guest(labels["guest"]), Path(disks))
        try:
            for workload in options.workloads:
                if belongs(workload, labels):
                    out.append({**labels, "workload": workload, **one_load(group, workload, seconds)})
                    print(line(out[-1]), flush=True)
            group.check()
        finally:
            group.stop()
    return out


def belongs(name: str, labels: Run) -> bool:
    """Is the workload run by this group?"""
    workload, single = WORKLOADS[name], (labels["vcpus"], labels["mbit_per_s"]) == SINGLE
    return workload.guest == labels["guest"] and (workload.throughput or single)


def one_load(group: Group, name: str, seconds: float) -> Run:
    workload = WORKLOADS[name]
    amount = workload.warm_up(seconds)
    last = max((s["number"] for s in group.syncvms()), default=0)
    wire, cpu, client_s, began = hosts.wire_bytes(), hosts.cpu_s_by_kind(), children_s(), time.monotonic()
    served = workload.run(amount)
    lasted_s, client_s = time.monotonic() - began, children_s() - client_s
    wire = {host: after - wire[host] for host, after in hosts.wire_bytes().items()}
    cpu = {who: round(after - cpu[who], 2) for who, after in hosts.cpu_s_by_kind().items()}
    return {
        **served._asdict(),
        "lasted_s": round(lasted_s, 2),
        "wire_bytes": wire,
        "cpu_s": cpu,
        "wire_bytes_per_request": round(sum(wire.values()) / served.requests, 1),
        **costs.per_request(cpu, client_s, served.requests),
        **syncvm_figures([s for s in group.syncvms() if s["number"] > last]),
    }


def children_s() -> float:
    """CPU seconds of the programs that we ran and that have ended: the clients."""
    used = os.times()
    return used.children_user + used.children_system


def syncvm_figures(syncvms: list[dict[str, Any]]) -> Run:
    """Of the syncvms, or COLO's checkpoints, during a load; QEMU tells of its checkpoints only when they were."""
    out: Run = {"syncvms": len(syncvms)}
    if len(syncvms) > 1:
        gaps = [1000 * (b["at_s"] - a["at_s"]) for a, b in zip(syncvms, syncvms[1:])]
        out["interval_p50_ms"] = round(statistics.median(gaps), 1)
    if syncvms:
        pauses = sorted(s["pause_ms"] for s in syncvms)
        out |= {"pause_p50_ms": round(statistics.median(pauses), 3), "pause_p99_ms": pauses[99 * len(pauses) // 100]}
    if syncvms and "dirty_pages" in syncvms[0]:
        dirty, divergent = (sum(s[key] for s in syncvms) for key in ("dirty_pages", "divergent_pages"))
        out |= {
            "dirty_pages_p50": statistics.median(s["dirty_pages"] for s in syncvms),
            "same_page_percent": round(100 * (1 - divergent / max(1, dirty)), 1),
            "syncvm_bytes_p50": statistics.median(s["bytes"] for s in syncvms),
        }
    return out


# ---- what comes of it ----------------------------------------------------------------------------------------------
def write(options: argparse.Namespace, runs: list[Run], failures: list[Run]) -> None:
    """services.json and report.html, of all that there is so far."""
    result = {"ratios": ratios(runs), "colo": colo.ABOUT, "failures": failures, "runs": runs}
    about = (
        f"{os.cpu_count()} cores ({cpu_model()}), all three hosts and the clients on them; "
        f"guests of 256 MiB under TCG; {options.rounds} rounds, the systems in turn."
    )
    notes = " ".join([f"COLO: {colo.ABOUT}.", *(f"Failed: {failed(failure)}." for failure in failures)])
    texts = {
        "services.json": json.dumps(result, indent=1) + "\n",
        "report.html": report.page(runs, result["ratios"], list(SYSTEMS), about, notes),
    }
    for name, text in texts.items():
        partial = options.out / f"{name}.new"
        partial.write_text(text)
        partial.rename(options.out / name)


def failed(failure: Run) -> str:
    """A failure in one sentence; all that is known of it is in services.json."""
    return (
        f"{failure['mode']}, {failure['guest']} guest, {failure['vcpus']} vCPU, {failure['mbit_per_s'] / 1000:g} "
        f"Gbit/s, round {failure['round'] + 1}: {failure['error'].splitlines()[0]}"
    )


def ratio(runs: list[Run], key: str, other: str) -> float | None:
    """Plover divided by ``other``: geometric mean over workloads of throughput and vCPU counts at 1 Gbit/s for which both have
    figures, or None."""
    busy = [run for run in runs if run["mbit_per_s"] == RATIO_MBIT_PER_S and WORKLOADS[run["workload"]].throughput]
    cases = sorted({(run["workload"], run["vcpus"]) for run in busy})
    pairs = []
    for workload, vcpus in cases:
        labels = {"workload": workload, "vcpus": vcpus, "mbit_per_s": RATIO_MBIT_PER_S}
        pairs.append([middle(runs, key, mode=mode, **labels) for mode in ("plover", other)])
    quotients = [ours / theirs for ours, theirs in pairs if ours and theirs]
    return statistics.geometric_mean(quotients) if quotients else None


def added_ms(runs: list[Run], key: str) -> float | None:
    """What protection adds to an answer's time, for one client alone; None: not measured."""
    with_it, without = (middle(runs, key, mode=mode, workload=Turns.name) for mode in ("plover", "unprotected"))
    return None if with_it is None or without is None else with_it - without


def ratios(runs: list[Run]) -> dict[str, float | None]:
    return {
        "throughput_vs_colo": ratio(runs, "requests_per_s", "colo"),
        "throughput_vs_remus_25ms": ratio(runs, "requests_per_s", "remus-25ms"),
        "throughput_vs_unprotected": ratio(runs, "requests_per_s", "unprotected"),
        "throughput_vs_plain_links": ratio(runs, "requests_per_s", "plover-plain"),
        "wire_bytes_per_request_vs_remus_25ms": ratio(runs, "wire_bytes_per_request", "remus-25ms"),
        "pause_p50_vs_colo": ratio(runs, "pause_p50_ms", "colo"),
        "added_latency_ms_p50": added_ms(runs, "p50_ms"),
        "added_latency_ms_p99": added_ms(runs, "p99_ms"),
    }


def line(run: Run) -> str:
    return (
        f"{run['vcpus']} vCPU, {run['mbit_per_s'] / 1000:g} Gbit/s, round {run['round'] + 1}: {run['mode']:12} "
        f"{run['workload']:14} {run['requests_per_s']:9,.0f}/s  p50 {run['p50_ms']:7.2f}  p99 {run['p99_ms']:7.2f} ms  "
        f"{run['wire_bytes_per_request']:9,.0f} B/request  pause {run.get('pause_p50_ms', 0):6.2f} ms"
    )


def table(runs: list[Run]) -> list[str]:
    """Medians over the rounds, with the least and the most requests/s."""
    out = [
        "",
        f"{'':34} {'mode':12} {'requests/s (least, most)':32} {'p50':>8} {'p99 ms':>8} {'wire B/req':>11} "
        f"{'pause':>7} {'dirty':>6} {'same %':>6}",
    ]
    cases = sorted({(run["vcpus"], run["mbit_per_s"], run["workload"]) for run in runs})
    for vcpus, mbit_per_s, workload in cases:
        for mode in SYSTEMS:
            labels = {"vcpus": vcpus, "mbit_per_s": mbit_per_s, "workload": workload, "mode": mode}
            rates = [run["requests_per_s"] for run in runs if all(run[k] == v for k, v in labels.items())]
            if rates:
                spread = f"{statistics.median(rates):,.0f} ({min(rates):,.0f}, {max(rates):,.0f})"
                p50, p99, wire, *more = (
                    middle(runs, key, **labels)
                    for key in ("p50_ms", "p99_ms", "wire_bytes_per_request", "pause_p50_ms", "dirty_pages_p50", "same_page_percent")
                )
                pause, dirty, same = (f"{value:.1f}" if value is not None else "-" for value in more)
                out.append(
                    f"{vcpus} vCPU {mbit_per_s / 1000:4g} Gbit/s {workload:15} {mode:12} {spread:32} {p50:8.2f} "
                    f"{p99:8.2f} {wire:11,.0f} {pause:>7} {dirty:>6} {same:>6}"
                )
    return out


if __name__ == "__main__":
    sys.exit(main())
