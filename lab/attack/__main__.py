# SPDX-License-Identifier: GPL-3.0-or-later
"""make attack: what an outsider, a client, a guest, a witness gone bad, an on-path host, a local user and QEMU's user can do to the
deployed lab; ends with a table and build/attack/result.json. Its exit status is 0 if every attack was carried out and none succeeded."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys

from ..up import say
from . import outcome, stage
from .runner import ATTACK, chosen, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="make attack", description=__doc__)
    parser.add_argument("--attack", default="", help="only this one, or those of this attacker (A=)")
    options = parser.parse_args()
    attacks, results = chosen(options.attack), []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("attack: asked to end"))  # take the lab down, as at an interrupt
    try:
        for done in play(attacks):
            results.append(done)
            (ATTACK / "result.json").write_text(json.dumps(outcome.summary(results), indent=1) + "\n")
    finally:
        if os.environ.get("KEEP") != "1":
            say("taking the hosts down (KEEP=1 keeps them)")
            stage.clear()
    print(f"\n{outcome.table(results)}\n(build/attack/result.json)")
    return 0 if outcome.good(outcome.summary(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
