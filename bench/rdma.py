# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-rdma`: the cost of a commit and of a transfer of pages over RDMA, compared with perftest's raw writes in the same guests.

There is no RDMA hardware here: two QEMU guests under TCG, of one vCPU each, speak real verbs over Soft-RoCE. So
times are many times a card's; the ratios show Plover's cost on top of the verbs. A round takes every contender once, in turn,
and the next one in the opposite order.

A commit is a frame into the follower's ring and its completion: there and back. `ib_write_lat` reports half of such a way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lab.paths import BUILD, ROOT
from lab.rdma.guests import Guest, Guests

from .load import BenchError
from .machine import busy_s, cpu_model

PROGRAM = "/plover/native/build/rdma-bench"
DEVICE, GID_INDEX, PORT = "rxe0", "1", "7500"
ENV = {"PYTHONPATH": "/plover/plugins/module_utils", "PLOVER_NATIVE_DIR": "/plover/native/build"}
PAYLOAD = 100
FRAME = 24 + (PAYLOAD + 7) // 8 * 8 + 8  # native/include/plover_rdma.h: what a commit writes
PART_KIB = 256  # as plover.protocol.pipe sends it
RAW_SIZES = (64 << 10, 256 << 10)  # the better one counts
WRITE_LAT, COMMIT, BUSY, PYTHON = "write_lat_us", "commit_us", "commit_busy_us", "commit_python_us"
WRITE_BW, FRAMES, PAGES = "write_bw_mb_per_s", "frames_mb_per_s", "pages_mb_per_s"
RATIOS = {
    "commit_vs_write_lat": (COMMIT, WRITE_LAT),
    "transfer_vs_write_bw": (PAGES, WRITE_BW),
    "copied_vs_write_bw": (FRAMES, WRITE_BW),
    "commit_python_vs_write_lat": (PYTHON, WRITE_LAT),
    "commit_busy_vs_write_lat": (BUSY, WRITE_LAT),
}
AIMS = {"commit_vs_write_lat": 2.0, "transfer_vs_write_bw": 0.8}
TEXTS = {
    WRITE_LAT: f"ib_write_lat, {FRAME} bytes: half a round trip",
    COMMIT: f"a commit of {PAYLOAD} bytes, from C",
    BUSY: "the same, the follower never sleeps",
    PYTHON: "a commit from Python",
    WRITE_BW: "ib_write_bw, the better of 64 and 256 KiB",
    PAGES: f"pages in raw frames of {PART_KIB} KiB, not copied",
    FRAMES: "pages copied into frames, as all else is",
}
PERFTEST_MB = 1 << 20  # what it calls MB/sec
OTHERS_MAX = 10.0  # percent
# Whoever looks for completions without a pause would keep the kernel's packet thread from a guest's only vCPU.
POLITELY = ("/usr/bin/python3", "-Sc", "import os, sys; os.nice(19); os.execv(sys.argv[1], sys.argv[1:])")
HOW = (
    "Two guests under QEMU's TCG (no KVM, no RDMA hardware), one vCPU each, Soft-RoCE with an MTU of 1024 over a bridge;",
    "an end that spins shares that vCPU with the kernel's packet work, and both guests share the machine's cores. RC.",
    "A ratio is the median of the rounds' own. Of the best rounds: of each side's best, which others disturbed least;",
    "above 1 for a bandwidth means that ib_write_bw, which spins, suffers more from its one vCPU than we, who sleep.",
)
Round = dict[str, float]


def main() -> int:
    options = parse(sys.argv[1:])
    try:
        found = run(options)
    except (BenchError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        print(f"bench-rdma: {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rdma.json").write_text(json.dumps(found, indent=2) + "\n")
    print("\n".join(table(found)))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.rdma", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commits", type=int, default=500, help="in each round")
    parser.add_argument("--mib", type=int, default=32, help="of pages in each round")
    parser.add_argument("--out", type=Path, default=BUILD / "bench")
    options = parser.parse_args(arguments)
    if not (0 < options.rounds <= 20 and 10 <= options.commits <= 5000 and 1 <= options.mib <= 256):
        parser.error("1-20 rounds, 10-5000 commits, 1-256 MiB")
    return options


def run(options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory(prefix="plover-bench-rdma-") as folder:
        guests = Guests(Path(folder), ("leader", "follower"))
        try:
            guests.start()
            began = time.monotonic(), busy_s() - cpu_s(guests)
            rounds = measure(guests["leader"], guests["follower"], options)
            wall, others = time.monotonic() - began[0], busy_s() - cpu_s(guests) - began[1]
        finally:
            guests.stop()
    return {
        **figures(rounds),
        "how": " ".join(HOW),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "frame_bytes": FRAME,
        "commits": options.commits,
        "mib": options.mib,
        "seconds": round(wall, 1),
        "others_percent": round(100 * max(0.0, others) / wall / (os.cpu_count() or 1), 1),
    }


def cpu_s(guests: Guests) -> float:
    """CPU seconds of the guests so far."""
    ticks = 0
    for guest in guests.guests.values():
        fields = Path(f"/proc/{guest.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# ---- the contenders -----------------------------------------------------------------------------------------------------
def measure(leader: Guest, follower: Guest, options: argparse.Namespace) -> list[Round]:
    work = contenders(leader, follower, options)
    server = follower.spawn(*POLITELY, PROGRAM, "serve", DEVICE, GID_INDEX, PORT, log="/shared/serve.log")
    rounds = []
    try:
        for number in range(options.rounds):
            names = list(work) if number % 2 == 0 else list(reversed(work))
            rounds.append({name: work[name]() for name in names})
            print(f"round {number + 1} of {options.rounds}", flush=True)
    except RuntimeError as error:
        log = follower.shared / "serve.log"
        raise BenchError(f"{error}{log.read_text() if log.exists() else ''}") from error
    finally:
        with contextlib.suppress(OSError, ValueError):  # it has ended, and that is why
            follower.ask({"kill": server, "signal": 9})
    return rounds


def contenders(leader: Guest, follower: Guest, options: argparse.Namespace) -> dict[str, Callable[[], float]]:
    def ours(key: str, program: tuple[str, ...], *words: object) -> float:
        for attempt in range(20):
            done = leader.run(*POLITELY, *program, *map(str, words), timeout_s=60, check=False, **ENV)
            if not done["rc"]:
                return figure_of(done["out"], key)
            if "refused" not in done["err"] or attempt == 19:
                raise BenchError(f"{' '.join(program)} ended with {done['rc']}: {done['err'].strip()}")
            time.sleep(0.3)  # the follower does not listen yet
        raise AssertionError

    def in_c(key: str, mode: str, size: int, count: int) -> float:
        return ours(key, (PROGRAM, mode), DEVICE, GID_INDEX, PORT, follower.ip, size, count)

    def in_python() -> float:
        program = ("/usr/bin/python3", "/plover/bench/rdma_inside.py")
        return ours("p50_us", program, DEVICE, GID_INDEX, PORT, follower.ip, PAYLOAD, options.commits)

    def raw_latency() -> float:
        return perftest(leader, follower, "ib_write_lat", FRAME, options.commits)["t_typical[usec]"]

    def raw_bandwidth() -> float:
        rows = (perftest(leader, follower, "ib_write_bw", size, (options.mib << 20) // size) for size in RAW_SIZES)
        return max(row["BW average[MB/sec]"] * PERFTEST_MB / 1e6 for row in rows)

    part = PART_KIB << 10
    return {
        WRITE_LAT: raw_latency,
        COMMIT: lambda: in_c("p50_us", "commit", PAYLOAD, options.commits),
        PYTHON: in_python,
        BUSY: lambda: in_c("p50_us", "busy", PAYLOAD, options.commits),
        PAGES: lambda: in_c("mb_per_s", "pages", PART_KIB, (options.mib << 20) // part),
        WRITE_BW: raw_bandwidth,
        FRAMES: lambda: in_c("mb_per_s", "frames", PART_KIB, (options.mib << 20) // part),
    }


def perftest(leader: Guest, follower: Guest, tool: str, size: int, count: int) -> dict[str, float]:
    """Its row of figures. The server serves one client, and then ends."""
    words = (*POLITELY, f"/usr/bin/{tool}", "-F", "-d", DEVICE, "-x", GID_INDEX, "-s", str(size), "-n", str(max(count, 5)))
    server = follower.spawn(*words, log="/shared/perftest.log")
    try:
        for _ in range(20):
            time.sleep(0.3)
            done = leader.run(*words, follower.ip, timeout_s=60, check=False)
            if not done["rc"]:
                return row_of(done["out"], tool)
            if "connect" not in done["err"] + done["out"]:
                break
        raise BenchError(f"{tool} ended with {done['rc']}: {done['err'].strip()[-300:]}")
    finally:
        if follower.ask({"wait": server, "timeout": 5})["rc"] is None:
            follower.ask({"kill": server, "signal": 9})
            follower.ask({"wait": server, "timeout": 5})


def row_of(output: str, tool: str) -> dict[str, float]:
    """The last row that perftest printed, by its columns' names."""
    lines = [line for line in output.splitlines() if line.strip()]
    heads = [n for n, line in enumerate(lines) if line.lstrip().startswith("#bytes")]
    if not heads or heads[-1] + 1 == len(lines):
        raise BenchError(f"{tool} printed no figures: {output[-300:]!r}")
    names = re.findall(r"#\w+|[\w.%]+(?: \w+)?\[[^\]]+\]", lines[heads[-1]])
    try:
        values = [float(word) for word in lines[heads[-1] + 1].split()]
    except ValueError:
        values = []
    if len(values) != len(names):
        raise BenchError(f"{tool} printed {lines[heads[-1] + 1]!r} under {lines[heads[-1]]!r}")
    return dict(zip(names, values))


def figure_of(output: str, key: str) -> float:
    try:
        return float(json.loads(output)[key])
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"no {key} in {output[-300:]!r}") from error


# ---- what it comes to ---------------------------------------------------------------------------------------------------
def figures(rounds: list[Round]) -> dict:
    wrong = [
        f"{name} in round {n + 1}: {one.get(name)}" for n, one in enumerate(rounds) for name in TEXTS if not 0 < one.get(name, 0) < 1e9
    ]
    if wrong or not rounds:
        raise BenchError(f"no result without {'; '.join(wrong) or 'a round'}")
    columns = {name: [one[name] for one in rounds] for name in TEXTS}
    medians = {name: statistics.median(values) for name, values in columns.items()}
    best = {name: min(values) if name.endswith("_us") else max(values) for name, values in columns.items()}

    def ratios(of: Round) -> Round:
        return {key: round(of[ours] / of[raw], 3) for key, (ours, raw) in RATIOS.items()}

    each = [ratios(one) for one in rounds]  # neighbours change the machine's speed from one second to the next
    return {
        **{key: round(statistics.median(one[key] for one in each), 3) for key in RATIOS},
        "of_medians": ratios(medians),
        "of_best_rounds": ratios(best),
        "of_rounds": each,
        "medians": {name: round(value, 2) for name, value in medians.items()},
        "rounds": [{name: round(one[name], 2) for name in TEXTS} for one in rounds],
    }


def table(found: dict) -> list[str]:
    others = found["others_percent"]
    spoilt = ": they spoil the figures" if others > OTHERS_MAX else ""
    lines = [
        "",
        *HOW,
        f"{found['cpu']}, {found['cores']} cores; {len(found['rounds'])} rounds; other processes took "
        f"{others:.1f} % of the machine{spoilt}",
        "",
        f"{'':<46} {'median':>9}  lowest–highest",
    ]
    for name, text in TEXTS.items():
        values = [one[name] for one in found["rounds"]]
        unit = "µs" if name.endswith("_us") else "MB/s"
        lines.append(f"{text:<46} {found['medians'][name]:>9,.1f}  {min(values):,.1f}–{max(values):,.1f} {unit}")
    lines.append("")
    for key in RATIOS:
        lines.append(f"{key} = {found[key]:.3g} (of the best rounds {found['of_best_rounds'][key]:.3g}{verdict(key, found[key])})")
    return lines


def verdict(key: str, ratio: float) -> str:
    if key not in AIMS:
        return ""
    low = key.endswith("_lat")
    met = ratio <= AIMS[key] if low else ratio >= AIMS[key]
    return f"; aim: at {'most' if low else 'least'} {AIMS[key]:g}: {'met' if met else 'MISSED'}"


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
