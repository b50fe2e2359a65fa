# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-hash`: Plover's page hashing compared with the `cityhash` package and with reading the same memory, in one run.

The memory is like guest memory: a shared mapping of a tmpfs, of 4 KiB pages, far larger than the caches, with random
content. In each round every contender hashes all pages twice: in order, as after a full scan, and in random order,
which is worse than any set of dirty pages. Every hash of every round is compared with the package's.
"""

from __future__ import annotations

import argparse
import ctypes as c
import importlib.metadata
import json
import os
import platform
import random
import statistics
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cityhash import CityHash64
from plover.native.buffers import PAGE_BYTES
from plover.native.guest_ram import GuestRam
from plover.native.library import Native

from lab.paths import BUILD, ROOT

from .load import BenchError
from .machine import cpu_model

NATIVE = ROOT / "native" / "build"
PACKAGE, CALLS, READ = "cityhash", "empty calls", "memory read"
ORDERED, RANDOM = "in order", "at random"
FETCHES = (0, 1, 2)  # pages that a reader fetches ahead; the best counts
AIMS = {"vs_cityhash_1t": 1.5, "vs_memory_bandwidth": 0.9}
OTHERS_MAX = 10.0  # percent
DRIVEN = {
    PACKAGE: "called page by page from Python, through memoryviews made beforehand; one thread",
    CALLS: "the package called as often with nothing to hash: what of its time is Python's",
    READ: "the pages' words summed up with the widest vectors, on the same threads; the best of fetching 0, 1 or 2 pages ahead",
    "plain": "one page after the other, in C: the package without Python",
}


class Key(NamedTuple):
    name: str
    threads: int
    order: str


Work = Callable[[], "array | int | None"]  # the pages' hashes, or what reading them has summed up, or nothing
Runs = dict[Key, list[float]]  # ns per page, round after round


def main() -> int:
    options = parse(sys.argv[1:])
    pages = options.mib * 2**20 // PAGE_BYTES
    ram = random_pages(pages)
    lib = Native(NATIVE)
    work = contenders(lib, ram)
    began = cpu_seconds()
    try:
        runs = measure(work, pages, options.rounds)
    except BenchError as error:
        print(f"bench-hash: {error}", file=sys.stderr)
        return 1
    others = others_percent(began, cpu_seconds())
    found = ratios(runs, lib.hash_kernels()[0])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "hash.json").write_text(json.dumps(found, indent=2) + "\n")
    (options.out / "hash-runs.json").write_text(json.dumps(raw(options, runs, others), indent=1) + "\n")
    print("\n".join([*table(options, runs, others), *verdicts(found)]))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.hash", description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=512, help="memory that is hashed")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=BUILD / "bench")
    options = parser.parse_args(arguments)
    if options.mib < 1 or options.rounds < 1:
        parser.error("mib and rounds must be positive")
    return options


def random_pages(pages: int) -> GuestRam:
    """Private guest memory; it goes with the process."""
    fd = os.memfd_create("plover-bench-hash")
    try:
        os.truncate(fd, pages * PAGE_BYTES)
        ram = GuestRam(f"/proc/self/fd/{fd}", pages)
    finally:
        os.close(fd)
    for at in range(0, pages * PAGE_BYTES, 2**20):
        ram.map[at : at + 2**20] = os.urandom(2**20)
    return ram


class Reader:
    """native/bench/read_memory.c, with a pool like the hasher's."""

    def __init__(self, threads: int) -> None:
        self._lib = lib = c.CDLL(str(NATIVE / "libplover_bench.so"))
        lib.plover_pool_new.restype, lib.plover_pool_new.argtypes = c.c_void_p, [c.c_uint]
        lib.plover_read_pages.argtypes = [c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p, c.c_size_t, c.c_size_t, c.c_void_p]
        self._pool = lib.plover_pool_new(threads)

    def read(self, ram: GuestRam, index: array, fetch: int) -> int:
        total = c.c_uint64()
        if self._lib.plover_read_pages(self._pool, ram.address, ram.pages, index.buffer_info()[0], len(index), fetch, c.byref(total)):
            raise BenchError("reading memory: a page is out of range")
        return total.value


def contenders(lib: Native, ram: GuestRam) -> dict[Key, Work]:
    ordered = array("I", range(ram.pages))
    shuffled = array("I", random.Random(1).sample(ordered, ram.pages))
    out: dict[Key, Work] = {}
    for order, index in ((ORDERED, ordered), (RANDOM, shuffled)):
        out |= package(ram, index, order)
        for threads in dict.fromkeys((1, os.cpu_count() or 1)):
            pool, reader = lib.pool(threads), Reader(threads)
            for kernel in lib.hash_kernels():
                out[Key(kernel, threads, order)] = lambda p=pool, i=index, k=kernel: lib.hash_pages(p, ram, i, k)
            for fetch in FETCHES:
                out[Key(f"{READ} {fetch}", threads, order)] = lambda r=reader, i=index, f=fetch: r.read(ram, i, f)
    return out


def package(ram: GuestRam, index: array, order: str) -> dict[Key, Work]:
    whole = memoryview(ram.map)
    views = [whole[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] for page in index]
    nothing = [whole[:0]] * len(index)

    def only_call() -> None:
        array("Q", map(CityHash64, nothing))

    return {Key(PACKAGE, 1, order): lambda: array("Q", map(CityHash64, views)), Key(CALLS, 1, order): only_call}


def measure(work: dict[Key, Work], pages: int, rounds: int) -> Runs:
    """Times of every contender in every round. Two contenders that hash or read the same pages must get the same result."""
    runs: Runs = {key: [] for key in work}
    told: dict[str, array | int | None] = {}
    for number in range(rounds):
        for key, run in work.items():
            began = time.perf_counter_ns()
            result = run()
            runs[key].append((time.perf_counter_ns() - began) / pages)
            kind = key.order if isinstance(result, array) else READ
            if result is not None and told.setdefault(kind, result) != result:
                raise BenchError(f"{key.name}, {key.threads} threads, {key.order}: {difference(told[kind], result)}")
            del result  # or the next one is written to fresh memory, and that the kernel clears it counts as hashing
        print(f"round {number + 1} of {rounds}", flush=True)
    return runs


def difference(wanted: array | int, got: array | int) -> str:
    if not isinstance(wanted, array):
        return f"has read a sum of {got:#x}, others {wanted:#x}"
    page = next((n for n, (a, b) in enumerate(zip(wanted, got)) if a != b), min(len(wanted), len(got)))
    return f"hash {page} of {len(wanted)} differs from the package's"


def fastest_read(runs: Runs, threads: int, order: str) -> list[float]:
    return min((runs[Key(f"{READ} {fetch}", threads, order)] for fetch in FETCHES), key=statistics.median)


def ratios(runs: Runs, best: str) -> dict[str, float]:
    """How many times faster ours is: the median of the ratios of single rounds, as other load on the machine changes its memory's
    speed from one second to the next."""

    def faster(theirs: list[float], ours: list[float]) -> float:
        return round(statistics.median(a / b for a, b in zip(theirs, ours)), 3)

    out = {}
    most = max(key.threads for key in runs)
    for order, suffix in ((ORDERED, ""), (RANDOM, "_random")):
        one, all_of_them = runs[Key(best, 1, order)], runs[Key(best, most, order)]
        theirs, calls = runs[Key(PACKAGE, 1, order)], runs[Key(CALLS, 1, order)]
        out |= {
            f"vs_cityhash_1t{suffix}": faster(theirs, one),
            f"vs_memory_bandwidth{suffix}": faster(fastest_read(runs, most, order), all_of_them),
            f"vs_cityhash_1t_without_calls{suffix}": faster([a - b for a, b in zip(theirs, calls)], one),
            f"vs_plain_1t{suffix}": faster(runs[Key("plain", 1, order)], one),
            f"vs_memory_bandwidth_1t{suffix}": faster(fastest_read(runs, 1, order), one),
        }
    return out


def cpu_seconds() -> tuple[float, float, float]:
    """Of all cores: (busy, existing); and of this process."""
    user, nice, system, idle, iowait, *rest = (int(x) for x in Path("/proc/stat").read_text().split()[1:9])
    busy, tick = user + nice + system + sum(rest), os.sysconf("SC_CLK_TCK")
    return busy / tick, (busy + idle + iowait) / tick, time.process_time()


def others_percent(began: tuple[float, float, float], ended: tuple[float, float, float]) -> float:
    """The share of the machine that other processes used meanwhile. If it is high, ignore the figures for all threads."""
    busy, existing, own = (b - a for a, b in zip(began, ended))
    return round(max(0.0, 100 * (busy - own) / max(existing, 0.01)), 1)


def raw(options: argparse.Namespace, runs: Runs, others: float) -> dict:
    return {
        "mib": options.mib,
        "rounds": options.rounds,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "others_percent": others,
        "python": platform.python_version(),
        "cityhash": importlib.metadata.version("cityhash"),
        "driven": DRIVEN,
        "ns_per_page": [{**key._asdict(), "rounds": [round(ns, 2) for ns in times]} for key, times in runs.items()],
    }


def table(options: argparse.Namespace, runs: Runs, others: float) -> list[str]:
    spoilt = ": they spoil what is said of all threads, run it again without them" if others > OTHERS_MAX else ""
    lines = [
        "",
        f"Hashing {options.mib} MiB of pages, {cpu_model()}, {os.cpu_count()} cores; median of {options.rounds} rounds (lowest–highest)",
        f"Other processes took {others:.1f} % of the machine{spoilt}",
        "",
        f"{'':<15} {'threads':>7} {'order':<9} {'ns per page':>26} {'GB/s':>6}",
    ]
    for key, times in sorted(runs.items(), key=lambda item: (item[0].order == RANDOM, item[0].threads)):
        middle = statistics.median(times)
        cell = f"{middle:,.1f} ({min(times):,.1f}–{max(times):,.1f})"
        speed = "" if key.name == CALLS else f"{PAGE_BYTES / middle:.1f}"
        lines.append(f"{key.name:<15} {key.threads:>7} {key.order:<9} {cell:>26} {speed:>6}")
    return [*lines, "", *(f"{name}: {text}" for name, text in DRIVEN.items()), ""]


def verdicts(found: dict[str, float]) -> list[str]:
    out = []
    for key, ratio in found.items():
        aim = AIMS.get(key)
        met = "" if aim is None else f" (aim: at least {aim:g}: {'met' if ratio >= aim else 'MISSED'})"
        out.append(f"{key} = {ratio:.3g}{met}")
    return out


if __name__ == "__main__":
    sys.exit(main())
