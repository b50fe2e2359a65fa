# SPDX-License-Identifier: GPL-3.0-or-later
"""The pieces of the test run: what each proves and costs, and which of them a run takes. Pure; run_tests.py runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from pathlib import PurePath
from typing import NamedTuple

BUDGET_S = 1800  # of `make test`, from its first second
SPARE_S = 120  # of that, kept back: for what comes after the last piece, and for a piece that takes longer than it should
LANES = 2
PYTHON = ".cache/venv/bin/python"
STAGES = {
    "gates": "all quality gates: ansible-lint, ansible-test sanity, mypy, ruff, docs, changelog, licences",
    "docs-site": "the documents become a site without a dead link",
    "native": "the C library, its kernels alike to the bit, also under ASan and UBSan, with the fuzzer's corpus",
    "unit": "pure logic, bad input",
    "system": "what real programs make of ours: nftables, a bridge and a TAP let nothing forged through; openssl links who may",
    "plays": "no play shows a secret; no unsigned package source is taken; releases are signed; alerts fire; an upload shows its progress",
    "fuzz": "each decoder refuses what it does not understand; the commit's hash chooses the inputs",
    "images": "the lab's base image, packages and guests can be made (first run only; cached)",
    "sim": "the paper's claims; the core under simulated faults, seed by seed; the core broken on purpose is caught",
    "bench": "the benchmarks run, and would notice a system that does not do its work",
    "integration": "two real QEMUs and three daemons in a network namespace: the main job, disks, operators, bad input",
    "hostile": "a QEMU that fails at each point in each way: late, half, never, endless, dead; a disk with EIO and ENOSPC",
    "engines": "the main job, disks and a switchover on other distributions' QEMUs",
    "rdma": "real verbs in guests with Soft-RoCE: the log, faults, a VM that outlives its host; QEMU under AppArmor",
    "lab": "the play and the day-2 plays on systemd hosts: demo, alerts and web page, chaos, attacks, refusals, secrets, groups",
    "molecule": "each role on hosts of its own: converge, idempotence, reboot, testinfra",
}


class Piece(NamedTuple):
    """``seconds``: on two quiet cores, with another piece running. A piece with two ``lanes`` has both cores to itself."""

    stage: str
    name: str
    command: tuple[str, ...]
    seconds: int
    core: bool = False  # a part of each `make test`; the others take turns
    lanes: int = 1

    @property
    def title(self) -> str:
        return f"{self.stage} {self.name}".rstrip()

    @property
    def slug(self) -> str:
        return self.title.replace(" ", "-").replace("_", "-")

    @property
    def names(self) -> set[str]:
        """The names that select the piece: its own, and those of its files."""
        return {self.name, *(PurePath(word).stem.removeprefix("test_") for word in self.command if word.endswith(".py"))}

    @property
    def lab(self) -> str:
        """Ends the names of its lab and of its network namespaces; short, as a path of a socket has 107 bytes."""
        return f"{self.stage[0]}-{self.name}".replace("_", "-")

    @property
    def needs_images(self) -> bool:
        return self.stage not in ("native", "unit", "system", "fuzz", "gates", "docs-site", "images", "sim", "plays")

    @property
    def timeout_s(self) -> int:
        return max(300, min(5 * self.seconds, 1500))


def pytest(*paths: str) -> tuple[str, ...]:
    return (PYTHON, "-m", "pytest", "-q", *paths)


def _files(stage: str, core: Iterable[str], alone: Iterable[str], seconds: dict[str, int]) -> list[Piece]:
    return [
        Piece(stage, name, pytest(f"tests/{stage}/test_{name}.py"), cost, name in core, 2 if name in alone else 1)
        for name, cost in seconds.items()
    ]


def _together(stage: str, name: str, files: Iterable[str], seconds: int) -> Piece:
    """Files that reuse one another's hosts, in this order (tests/lab/shared.py)."""
    return Piece(stage, name, pytest(*(f"tests/{stage}/test_{file}.py" for file in files)), seconds)


def _seeds(name: str, first: int, count: int, seconds: int, core: bool = False) -> Piece:
    words = ("-m", "tests.sim", str(count), "--first", str(first), "--jobs", "1")
    return Piece("sim", name, (PYTHON, "-u", *words), seconds, core)


def _scenarios(core: Iterable[str], seconds: dict[str, int]) -> list[Piece]:
    return [Piece("molecule", name, ("tools/molecule_scenario", name), cost, name in core) for name, cost in seconds.items()]


# Cheapest first: an error shows early. What judges an outage has the machine for itself.
PIECES = [
    Piece("native", "", ("make", "-s", "-C", "native", "test", "sanitize", "replay"), 25, True),
    Piece("unit", "", pytest("-n", "2", "--dist", "worksteal", "tests/unit"), 90, True),
    Piece("system", "", pytest("tests/system"), 30, True),
    Piece("fuzz", "", (PYTHON, "-m", "tests.fuzz", "--seconds", "60"), 70, True),
    Piece("gates", "", (PYTHON, "tools/lint.py"), 150, True),
    Piece("docs-site", "", ("make", "-s", "docs-pages"), 50),
    Piece("images", "", (PYTHON, "-m", "lab.images"), 60, True),
    Piece("sim", "claims", pytest("tests/sim"), 30, True),
    Piece("sim", "mutants", (PYTHON, "-u", "-m", "tests.sim.mutants", "--jobs", "1"), 90, True),
    _seeds("seeds-a", 0, 3100, 180, True),
    _seeds("seeds-b", 3100, 3450, 220),
    _seeds("seeds-c", 6550, 3450, 220),
    Piece("plays", "", pytest("tests/plays"), 150),
    Piece("bench", "", pytest("tests/bench"), 130, lanes=2),
    *_files(
        "integration",
        ("main_job", "disks"),
        (),
        {
            "main_job": 100,
            "disks": 120,
            "adoption": 40,
            "agreed_output": 60,
            "amnesia": 45,
            "backpressure": 20,
            "bad_input": 55,
            "block_copy": 30,
            "block_merge": 15,
            "boot": 220,
            "bridge_carries": 20,
            "bridge_port": 40,
            "bridge_rollback": 60,
            "drill": 40,
            "disk_absence": 95,
            "disk_errors": 40,
            "disk_figures": 30,
            "disk_guest": 65,
            "disk_kinds": 40,
            "disk_marks": 50,
            "disk_room": 70,
            "disk_streams": 50,
            "elf_kernel": 20,
            "encrypted_links": 60,
            "engines": 110,
            "exporter": 35,
            "full_folders": 120,
            "full_run_folder": 15,
            "guest_clock": 60,
            "lying_witness": 25,
            "nics": 90,
            "operator": 30,
            "power": 300,
            "qemu_user": 50,
            "scrub": 50,
            "switchover": 35,
            "trackers": 35,
            "vcpus": 45,
            "watchdog": 60,
        },
    ),
    *_files(
        "hostile",
        ("each_point", "disk_each_image"),
        (),
        {
            "each_point": 45,
            "disk_each_image": 25,
            "leader_faults": 300,
            "fill_faults": 480,
            "secondary_faults": 420,
            "disk_faults": 190,
            "disk_alone": 90,
            "merge_flush": 15,
            "secondary_flush": 15,
        },
    ),
    *(
        Piece("engines", f"{name}_{file}", (PYTHON, "-m", "lab.engines", name, file), seconds, (name, file) == ("10.0", "switchover"))
        for name in ("7.2", "10.0")
        for file, seconds in {"main_job": 110, "disks": 190, "switchover": 50}.items()
    ),
    # Three hosts that are guests themselves, with a VM in two of them: beside another piece they starve.
    *_files(
        "rdma",
        ("verbs",),
        ("replication", "end_to_end"),
        {"verbs": 30, "soft_roce": 70, "replication": 100, "end_to_end": 120, "bench": 80, "apparmor": 120},
    ),
    *_files(
        "lab",
        ("failover_demo",),
        ("failover_demo", "attack", "chaos", "demo_vm", "disks", "getting_started", "operate", "soak", "upgrade_qemu"),
        {
            "failover_demo": 100,
            "artifacts": 20,
            "attack": 600,
            "boot_deploy": 150,
            "chaos": 260,
            "day2": 300,
            "demo_vm": 550,
            "disks": 160,
            "getting_started": 500,
            "groups": 400,
            "mlnx_reboot": 40,
            "modules": 300,
            "operate": 330,
            "precheck_inventory": 110,
            "rdma_deploy": 150,
            "rootless_build": 40,
            "soak": 330,
            "soft_roce_role": 40,
            "upgrade_qemu": 250,
        },
    ),
    _together("lab", "refusals", ("deploy_refusals", "rdma_refusals", "precheck_hosts"), 260),
    _together("lab", "members", ("secrets", "certificates"), 700),
    *_scenarios(
        ("default",),
        {
            "default": 140,
            "bridge": 170,
            "disks": 200,
            "firewall": 90,
            "members": 120,
            "monitoring": 290,
            "ofed": 90,
            "prechecks": 100,
            "qemu": 70,
            "soft-roce": 540,
            "upgrade": 350,
        },
    ),
]


def core() -> list[Piece]:
    return [piece for piece in PIECES if piece.core]


def rest(commit: str) -> list[Piece]:
    """The pieces outside the core, as a ring. The commit's hash says where in the ring a run begins.

    A piece's chance to be the first is its share of the ring's seconds, so that the long ones have their turn as well.
    """
    others = [piece for piece in PIECES if not piece.core]
    at = int(hashlib.sha256(commit.encode()).hexdigest(), 16) % sum(piece.seconds for piece in others)
    first = 0
    while at >= others[first].seconds:
        at -= others[first].seconds
        first += 1
    return others[first:] + others[:first]


def chosen(stages: Collection[str], names: Collection[str]) -> list[Piece]:
    """Pieces of these stages (none given: all), of these names or with these files (none given: all)."""
    return [p for p in PIECES if (not stages or p.stage in stages) and (not names or p.names & set(names))]


def next_piece(queue: list[Piece], running: Collection[Piece], images_made: bool) -> Piece | None:
    """The first piece that may start now. A piece that needs both lanes waits, and later pieces in the queue wait with it."""
    free = LANES - sum(piece.lanes for piece in running)
    for piece in queue:
        if piece.lanes > free:
            return None
        if images_made or not piece.needs_images:
            return piece
    return None


def fits(piece: Piece, now_s: float, busy_s: float, pace: float) -> bool:
    """Whether a piece of the rest would end within the budget. ``busy_s``: how long the lanes that it needs will still be busy;
    ``pace``: how much slower than :attr:`Piece.seconds` this machine has been."""
    return now_s + busy_s + piece.seconds * pace <= BUDGET_S - SPARE_S


def table() -> str:
    """docs/testing.md's table of stages."""
    out = ["| Stage | What it proves | Seconds, in `make test` | Seconds, all of it | Pieces |", "| --- | --- | --- | --- | --- |"]
    for stage, proves in STAGES.items():
        pieces = [p for p in PIECES if p.stage == stage]
        always = [p for p in pieces if p.core]
        names = ", ".join(f"**{p.name}**" if p.core else p.name for p in pieces if p.name)
        out.append(f"| {stage} | {proves} | {sum(p.seconds for p in always) or '–'} | {sum(p.seconds for p in pieces)} | {names or '–'} |")
    return "\n".join(out) + "\n"


def lines(pieces: Iterable[Piece]) -> str:
    return "\n".join(f"{p.title:28} {p.seconds:4} s{'  in each run' if p.core else ''}" for p in pieces)
