# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-consensus`: Plover's consensus compared with etcd and PySyncObj, in one run on one machine.

Each system is three processes on loopback addresses of a network namespace of its own. (Its process namespace ends with the
run, with everything in it.) A round takes every system once: start, elect, one load after the other, check that all members
hold the same. Commands have 1 KiB; a client has one outstanding. Each adapter's docstring says how its system is driven.
The clients' places differ, as they do in use.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from lab.paths import BUILD

from . import etcd, inside, ours, pysync
from .load import COMMAND_BYTES, BenchError, Figures, Load

SYSTEMS: dict[str, ModuleType] = {module.NAME: module for module in (ours, etcd, pysync)}
CLIENTS = (1, 64)
WARMUP_PART = 0.3
AIMS = {"p50_vs_etcd_1": ("at most", 0.5), "throughput_vs_etcd_64": ("at least", 5.0)}
Runs = dict[str, list[list[Figures]]]  # system -> round -> load


def main() -> int:
    options = parse(sys.argv[1:])
    if (status := inside.run("bench.consensus", lambda: etcd.NAME in options.systems and etcd.binaries())) is not None:
        return status
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    try:
        runs = measure(options)
        check = etcd.cross_check(options.cross_check) if options.cross_check else None
    except BenchError as error:
        print(f"bench-consensus: {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "consensus.json").write_text(json.dumps(ratios(runs), indent=2) + "\n")
    (options.out / "consensus-runs.json").write_text(json.dumps(raw(options, runs, check), indent=1) + "\n")
    print("\n".join([*table(runs), *verdicts(ratios(runs))]))
    if check:
        print(f"cross-check, etcdctl check perf --load={options.cross_check}:", *check, sep="\n  ")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.consensus", description=__doc__.splitlines()[0])
    parser.add_argument("--systems", type=lambda text: text.split(","), default=list(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of one load, after a warm-up")
    parser.add_argument("--out", type=Path, default=BUILD / "bench")
    parser.add_argument("--cross-check", choices=("s", "m", "l", "xl"), help="also run etcd's own check (a minute)")
    options = parser.parse_args(arguments)
    unknown = set(options.systems) - set(SYSTEMS)
    if unknown or options.rounds < 1 or options.seconds <= 0:
        parser.error(f"systems are {', '.join(SYSTEMS)}; rounds and seconds must be positive")
    return options


def measure(options: argparse.Namespace) -> Runs:
    loads = [Load(clients, WARMUP_PART * options.seconds, options.seconds) for clients in CLIENTS]
    runs: Runs = {name: [] for name in options.systems}
    for number in range(options.rounds):
        for name in options.systems:
            with tempfile.TemporaryDirectory(prefix="plover-bench-", dir="/dev/shm") as folder:
                runs[name].append(SYSTEMS[name].run(Path(folder), loads))
            rows = ", ".join(f"{row.clients}: {row.commits_per_s:,.0f}/s {row.p50_us:,.0f} µs" for row in runs[name][-1])
            print(f"round {number + 1} of {options.rounds}, {name}: {rows}", flush=True)
    return runs


def over_rounds(runs: Runs, system: str, load: int, what: str) -> tuple[float, float, float]:
    """(median, lowest, highest) over the rounds."""
    values = [getattr(rows[load], what) for rows in runs[system]]
    return statistics.median(values), min(values), max(values)


def ratios(runs: Runs) -> dict[str, float]:
    """Ours divided by theirs, medians over the rounds: p50 with one client, throughput with 64."""
    out = {}
    for other in (etcd.NAME, pysync.NAME):
        if other in runs and ours.NAME in runs:
            for key, load, what in ((f"p50_vs_{other}_1", 0, "p50_us"), (f"throughput_vs_{other}_64", 1, "commits_per_s")):
                out[key] = round(over_rounds(runs, ours.NAME, load, what)[0] / over_rounds(runs, other, load, what)[0], 4)
    return out


def raw(options: argparse.Namespace, runs: Runs, check: list[str] | None) -> dict:
    return {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "command_bytes": COMMAND_BYTES,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "systems": {
            name: {
                "version": SYSTEMS[name].version(),
                "driven": SYSTEMS[name].DRIVEN,
                "rounds": [[row._asdict() for row in rows] for rows in runs[name]],
            }
            for name in runs
        },
        "cross_check": check,
    }


def table(runs: Runs) -> list[str]:
    rounds = len(next(iter(runs.values())))
    lines = [
        "",
        f"Consensus of three members on one machine, {os.cpu_count()} cores, commands of {COMMAND_BYTES} bytes; "
        f"median of {rounds} rounds (lowest–highest)",
        "",
        f"{'system':<10} {'clients':>7} {'commits/s':>26} {'p50 µs':>22} {'p99 µs':>24}",
    ]
    for load, clients in enumerate(CLIENTS):
        for name in runs:
            cells = []
            for what, width in (("commits_per_s", 26), ("p50_us", 22), ("p99_us", 24)):
                middle, low, high = over_rounds(runs, name, load, what)
                cells.append(f"{middle:,.0f} ({low:,.0f}–{high:,.0f})".rjust(width))
            lines.append(f"{name:<10} {clients:>7} {' '.join(cells)}")
    return [*lines, "", *(f"{name} {SYSTEMS[name].version()}: {SYSTEMS[name].DRIVEN}" for name in runs), ""]


def verdicts(found: dict[str, float]) -> list[str]:
    out = []
    for key, ratio in found.items():
        word, aim = AIMS.get(key, ("", 0.0))
        met = ratio <= aim if word == "at most" else ratio >= aim
        out.append(f"{key} = {ratio:.3g}" + (f" (aim: {word} {aim:g}: {'met' if met else 'MISSED'})" if word else ""))
    return out


if __name__ == "__main__":
    sys.exit(main())
