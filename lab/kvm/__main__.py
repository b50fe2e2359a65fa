# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m lab.kvm NAME TEST...: tests/integration/test_TEST.py under KVM, with the QEMU of that name on its Debian's own kernel,
as a row of build/engines/result.json. TEST:NAMES takes some of its tests only (pytest -k), as a file takes long here.
Without TEST it makes the guest only."""

from __future__ import annotations

import argparse
import json
import re
import sys

from lab import engines

from . import image, machine

SECONDS_MAX = 1500


def run(name: str, files: list[str], seconds: int) -> int:
    folder = engines.OUT / f"kvm-{name}-{re.sub('[^a-z_]+', '-', ' '.join(files))}"
    reports = machine.run(name, files, seconds, folder)
    print(machine.console(folder))
    if "facts.json" not in reports:
        raise SystemExit("the guest left no report")
    results = {f: engines.counted(reports.get(f"{f}.xml", b""), int(reports.get(f"{f}.status", b"2"))) for f in files}
    return engines.note(json.loads(reports["facts.json"]), results)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.kvm", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(engines.ENGINES))
    parser.add_argument("files", nargs="*", metavar="TEST", help="main_job: tests/integration/test_main_job.py; none: make the guest")
    parser.add_argument("--seconds", type=int, default=SECONDS_MAX, help="time limit of the tests")
    options = parser.parse_args()
    if not options.files:
        print(image.build(options.name).disk)
        return 0
    return run(options.name, options.files, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
