# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.fuzz.seeds``: write the seeds of each target, real messages and files, into its corpus."""

from __future__ import annotations

from .engine import CORPUS
from .target import Target
from .targets import TARGETS

PREFIX = "seed-"


def write(target: Target) -> int:
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{PREFIX}*"):
        old.unlink()
    seeds = list(target.seeds())
    for name, data in seeds:
        (folder / f"{PREFIX}{name}").write_bytes(data)
    return len(seeds)


if __name__ == "__main__":
    for each in TARGETS.values():
        print(f"{each.name}: {write(each)} seeds")
