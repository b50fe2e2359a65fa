# SPDX-License-Identifier: GPL-3.0-or-later
"""make bench-deploy: how long the deploy play takes on three fresh hosts, and again when nothing is left to do.

The base image, the guest's image and the native build are made before the clock starts. Writes build/bench/deploy.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from datetime import datetime
from pathlib import Path

from lab import deploy, guest_image
from lab.__main__ import up
from lab.hosts import HOSTS, down
from lab.paths import BUILD, LAB

from .machine import busy_s, cpu_model

OUT = BUILD / "bench" / "deploy.json"
SECOND_S_MAX, FIRST_S_MAX = 60.0, 240.0
_BEGINS = re.compile(r"^(\S+ \S+) .*?\| (?:(?:TASK|RUNNING HANDLER) \[(.+?)\] \*|(PLAY RECAP))")


def tasks(log: str) -> list[tuple[float, str]]:
    """(seconds, name) of each task in Ansible's log, longest first; a task lasts until the next one begins."""
    begins = []
    for line in log.splitlines():
        if found := _BEGINS.match(line):
            begins.append((datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp(), found[2] or ""))
    return sorted(((round(after[0] - at, 2), name) for (at, name), after in zip(begins, begins[1:])), reverse=True)


def run(number: int) -> dict:
    log = LAB / f"deploy-{number}.log"
    log.unlink(missing_ok=True)
    os.environ["ANSIBLE_LOG_PATH"] = str(log)
    began, busy = time.monotonic(), busy_s()
    changed, _ = deploy.play()
    took_s = time.monotonic() - began
    return {"s": round(took_s, 1), "changed": changed, "tasks": tasks(log.read_text()), "cores_busy": round((busy_s() - busy) / took_s, 2)}


def measure() -> dict:
    guest_image.build()
    down()
    try:
        up(list(HOSTS))
        deploy.write_inventory()
        first, second = run(1), run(2)
    finally:
        down()
    return {
        "first_s": first["s"],
        "second_s": second["s"],
        "second_changed": second["changed"],
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "cores_busy": [first["cores_busy"], second["cores_busy"]]},
        "slowest": {
            name: [{"s": s, "task": task} for s, task in each["tasks"][:8]] for name, each in (("first", first), ("second", second))
        },
    }


def table(result: dict) -> str:
    lines = [
        f"three hosts, {result['machine']['cores']} cores, {result['machine']['cpu']}",
        "",
        f"first run   {result['first_s']:6.1f} s  (limit {FIRST_S_MAX:.0f})",
        f"second run  {result['second_s']:6.1f} s  (limit {SECOND_S_MAX:.0f}), {result['second_changed']} changed",
    ]
    for name, slowest in result["slowest"].items():
        lines += ["", f"what the {name} run spent most on", *(f"{row['s']:6.1f} s  {row['task']}" for row in slowest)]
    return "\n".join(lines)


def good(result: dict) -> bool:
    return result["second_changed"] == 0 and result["second_s"] <= SECOND_S_MAX and result["first_s"] <= FIRST_S_MAX


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    result = measure()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{table(result)}\n({options.out})")
    return 0 if good(result) else 1


if __name__ == "__main__":
    sys.exit(main())
