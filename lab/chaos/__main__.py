# SPDX-License-Identifier: GPL-3.0-or-later
"""make chaos: real faults on real hosts, round after round; ends with a table and build/chaos/result.json."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys

from ..hosts import down
from ..up import say
from . import result
from .faults import FAULTS
from .runner import CELLS, CHAOS, play


def chosen(fault: str, role: str) -> list[tuple[str, str]]:
    """The cells to play. Raises SystemExit with what there is."""
    cells = [(f, r) for f, r in CELLS if fault in ("", f) and role in ("", r)]
    if not cells:
        rows = "\n".join(f"  {name}: {', '.join(row.roles)}" for name, row in FAULTS.items())
        raise SystemExit(f"chaos: no fault {fault or 'of any name'} for role {role or 'any'}; there are\n{rows}")
    return cells


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", default="", help="only this fault")
    parser.add_argument("--role", default="", help="only this role")
    parser.add_argument("--disk", action="store_true", help="the guest that runs from a disk")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds (ROUNDS=) must be at least 1")
    cells, rounds = chosen(options.fault, options.role), []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("chaos: asked to end"))  # heal and take down, as at an interrupt
    try:
        for done in play(options.rounds, options.seed, cells, options.disk):
            rounds.append(done)
            (CHAOS / "result.json").write_text(json.dumps(result.summary(rounds)) + "\n")
    finally:
        if os.environ.get("KEEP") != "1":
            say("taking the hosts down (KEEP=1 keeps them)")
            down()
    print(f"\n{result.table(rounds)}\n(build/chaos/result.json; each round: rounds.jsonl; files of bad ones: round-NNN/)")
    return 0 if result.good(result.summary(rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
