# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-scale`: what a syncvm costs by guest RAM, by dirty pages and by vCPUs, and what memory the runtime takes.

Real QEMU pairs run on three hosts of one machine (hosts.py). Each cell has several syncvms: a command to the guest's Redis
makes both VMs write the cell's number of pages, and its answer waits for the syncvm that covers them. Here, both sides wait
for idleness alone, so that syncvm has all the writes and both VMs have done them. The leader's wait for an idle secondary
is the guest's work, so it is measured and subtracted from the pause.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from lab.paths import BUILD

from . import footprint, guests, hosts, inside, scale_page
from .groups import Group
from .load import BenchError
from .machine import cpu_model
from .page_writer import PageWriter
from .scale_figures import Run, cell_key, memory_checks, slopes, table

SHM = Path("/dev/shm")
MBIT_PER_S = 10_000
SPARE_MIB = 1024  # left free on the machine beside both guests' RAM
RECORDED_S, QUIET_S = 30.0, 0.3
# Nothing but an idle VM with an answer to send makes a syncvm, and no time-out of a machine that is shared ends the run.
SETTINGS = {
    "output_release": "syncvm",
    "latency_ms_target": 10_000,
    "syncvm_interval_ms_max": 60_000,
    "syncvm_drain_ms_max": 10_000,
    "failover_budget_ms": 20_000,
}


class Guest(NamedTuple):
    """One pair of VMs and the numbers of pages that are written in it."""

    mib: int
    vcpus: int
    pages: tuple[int, ...]


GUESTS = (
    Guest(256, 1, (0,)),
    Guest(1024, 1, (0, 1024, 4096, 16_384, 65_536)),
    Guest(4096, 1, (0,)),
    Guest(1024, 2, (0,)),
    Guest(1024, 4, (0,)),
)


def main() -> int:
    options = parse(sys.argv[1:])
    if (status := inside.run("bench.scale", lambda: guests.guest("memory"))) is not None:
        return status
    hosts.make()
    hosts.shape(MBIT_PER_S)
    try:
        result = measure(options)
    except BenchError as error:
        print(f"bench-scale: {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scale.json").write_text(json.dumps(result, indent=1) + "\n")
    about = (
        f"{os.cpu_count()} cores ({cpu_model()}), both hosts' QEMU (TCG) and daemons on them, {MBIT_PER_S / 1000:g} "
        f"Gbit/s between the hosts; medians of {options.syncvms} syncvms."
    )
    (options.out / "scale.html").write_text(scale_page.page(result, about))
    print("\n".join(["", about, *table(result)]))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--guests", type=guests_of, default=GUESTS, metavar="MIB:VCPUS:PAGES+PAGES,...", help="pairs of VMs, and the pages written in each"
    )
    parser.add_argument("--syncvms", type=int, default=9, help="measured of each cell")
    parser.add_argument("--out", type=Path, default=BUILD / "bench")
    options = parser.parse_args(arguments)
    if options.syncvms < 1:
        parser.error("syncvms must be positive")
    return options


def guests_of(text: str) -> tuple[Guest, ...]:
    rows = [row.split(":") for row in text.split(",")]
    return tuple(Guest(int(mib), int(vcpus), tuple(map(int, pages.split("+")))) for mib, vcpus, pages in rows)


# ---- measuring ---------------------------------------------------------------------------------------------------
def measure(options: argparse.Namespace) -> dict[str, Any]:
    runs: list[Run] = []
    memory: list[dict[str, Any]] = []
    skipped: list[str] = []
    for guest in options.guests:
        problem = no_room(guest)
        if problem:
            skipped.append(problem)
            print(problem, flush=True)
            continue
        found, took = one_guest(guest, options.syncvms)
        runs += found
        memory.append(took)
    if not runs:
        raise BenchError("nothing was measured: " + "; ".join(skipped))
    return {"slopes": slopes(runs), "memory": {"guests": memory, "checks": memory_checks(memory)}, "skipped": skipped, "runs": runs}


def no_room(guest: Guest) -> str | None:
    """Why the guest is left out: RAM is in a tmpfs, once for each host."""
    free = shutil.disk_usage(SHM).free >> 20
    available = next(
        int(line.split()[1]) >> 10 for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:")
    )
    need = 2 * guest.mib + SPARE_MIB
    if min(free, available) >= need:
        return None
    return f"skipped: two guests of {guest.mib} MiB need {need} MiB; {SHM} has {free} free, the machine {available}"


def one_guest(guest: Guest, count: int) -> tuple[list[Run], dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="plover-bench-", dir=SHM) as folder:
        settings = {**SETTINGS, "guest_memory_mib": guest.mib}
        group = Group("plover", Path(folder), guest.vcpus, guests.guest("memory"), Path(folder), settings, "bench.timed_replica")
        try:
            pids = {f"{host} {what}": pid for host in hosts.REPLICAS for what, pid in footprint.processes(host).items()}
            with footprint.Peak(pids) as peak:
                runs = write_pages(group, guest, count)
            took = {"mib": guest.mib, "vcpus": guest.vcpus, "peak_anonymous_mib": peak.mib, **footprints(group, pids)}
            with footprint.Peak(pids) as peak:
                group.check()
            return runs, {**took, "audit_peak_anonymous_mib": peak.mib}
        finally:
            group.stop()


def footprints(group: Group, pids: dict[str, int]) -> dict[str, Any]:
    files = {host: group.folder / host / "bench.ram" for host in hosts.REPLICAS}
    return {
        "processes": {name: footprint.of_process(pid, files[name.split()[0]])._asdict() for name, pid in pids.items()},
        "ram_file_mib": {host: footprint.file_mib(file) for host, file in files.items()},
    }


def write_pages(group: Group, guest: Guest, count: int) -> list[Run]:
    runs = []
    writer = PageWriter(max(guest.pages))
    try:
        for pages in guest.pages:
            for number in range(-1, count):  # the first is the warm-up
                run = one_syncvm(group, writer, pages)
                if number >= 0:
                    runs.append({"mib": guest.mib, "vcpus": guest.vcpus, "pages": pages, **run})
            print(line(runs[-count:]), flush=True)
    finally:
        writer.close()
    return runs


def one_syncvm(group: Group, writer: PageWriter, pages: int) -> Run:
    """The syncvm that covers the writes; of several, the one with the most dirty pages."""
    last = settled(group)
    writer.write(pages)
    ended = settled(group)
    found = [s for s in group.syncvms() if last < s["number"] <= ended]
    dirty = sum(s["dirty_pages"] for s in found)
    if not found or dirty < pages:
        raise BenchError(f"the guest wrote {pages} pages, and the {len(found)} syncvms since then found {dirty}")
    found = max(found, key=lambda s: s["dirty_pages"])
    leader, secondary = (parts_of(group.folder / host / "run/bench/parts", found["number"]) for host in hosts.REPLICAS)
    waited_ms = wait_ms(leader["at"], secondary["at"], found["pause_ms"])
    return {
        **{key: found[key] for key in ("pause_ms", "dirty_pages", "divergent_pages", "bytes", "sent_bytes")},
        "waited_ms": round(waited_ms, 3),
        "work_ms": round(found["pause_ms"] - waited_ms, 3),
        "stood_ms": stood_ms(leader["at"], waited_ms),
        "staged_ms": round(1000 * (leader["at"]["got Staged"] - leader["at"]["drained"]) - waited_ms, 3),
        "parts_ms": {"leader": rounded(leader["ms"]), "secondary": rounded(secondary["ms"])},
    }


def settled(group: Group) -> int:
    """The number of the last syncvm, once all have ended: an answer is let out before the secondary has loaded."""
    end = time.monotonic() + RECORDED_S
    last, since = -1, 0.0
    while time.monotonic() < end:
        number = max((s["number"] for s in group.syncvms()), default=0)
        if number != last:
            last, since = number, time.monotonic()
        elif time.monotonic() - since > QUIET_S:
            return last
        time.sleep(0.02)
    raise BenchError(f"syncvms do not end within {RECORDED_S:g} s of an answer")


def parts_of(path: Path, number: int) -> dict[str, Any]:
    """What a daemon wrote down of a syncvm; the secondary does so a moment after the leader has its figures."""
    end = time.monotonic() + RECORDED_S
    while True:
        found = [row for row in map(json.loads, path.read_text().splitlines()) if row["number"] == number]
        if found:
            return found[-1]
        if time.monotonic() > end:
            raise BenchError(f"{path}: nothing of syncvm {number}")
        time.sleep(0.02)


def wait_ms(leader: dict[str, float], secondary: dict[str, float], pause_ms: float) -> float:
    """By how much the pause was longer because the secondary's VM was busy for longer than the leader's.

    It delayed the secondary's bitmap; but the leader saved its device state meanwhile, and would have had to wait for that.
    """
    late = max(0.0, secondary["drained"] - leader["drained"])
    ready, came = leader["sent Bitmap"], leader["got Bitmap"]
    waited = 1000 * (max(0.0, came - ready) - max(0.0, came - late - ready))
    least = 1000 * (leader["device_saved"] - leader["drained"])
    return max(0.0, min(waited, pause_ms - least))


def stood_ms(leader: dict[str, float], waited_ms: float) -> float | None:
    """Between QEMU's own events; None if the second came only after the syncvm had ended."""
    if not {"STOP", "RESUME"} <= set(leader) or leader["RESUME"] < leader["STOP"]:
        return None
    return round(1000 * (leader["RESUME"] - leader["STOP"]) - waited_ms, 3)


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}


def line(runs: list[Run]) -> str:
    pause, work, waited, dirty, divergent = (
        statistics.median(run[key] for run in runs) for key in ("pause_ms", "work_ms", "waited_ms", "dirty_pages", "divergent_pages")
    )
    return (
        f"{cell_key(runs[0])}: dirty {dirty:7,.0f}, divergent {divergent:6,.0f}, pause {pause:8.2f} ms = {work:7.2f} "
        f"and {waited:7.2f} for the secondary's VM"
    )


if __name__ == "__main__":
    sys.exit(main())
