# SPDX-License-Identifier: GPL-3.0-or-later
"""In the guest that has KVM: runs test files with ``guest_accel: kvm`` and leaves their reports and the row's facts in /out."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from _ansible.host import kvm

from lab import engines

OUT = Path("/out")
SLOWER = 10  # all of it, roughly, on a machine that is busy beside this
# Written to the root disk: tmpfs has no O_DIRECT on 6.1.
TMP = Path("/var/tmp/tests")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.kvm.inside", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, required=True, help="for each file")
    parser.add_argument("name", choices=list(engines.ENGINES))
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    if why := kvm.why_not():
        raise SystemExit(f"KVM does not work here: {why}")
    found = engines.facts_of(engines.INSTALLED, "kvm")
    if not found["qemu"].startswith(f"{options.name}."):
        raise SystemExit(f"this is QEMU {found['qemu']}, wanted {options.name}")
    (OUT / "facts.json").write_text(json.dumps(found))
    share = f"{list(engines.ENGINES).index(options.name) + 1}/{len(engines.ENGINES)}"
    env = {**os.environ, "PLOVER_TEST_ACCEL": "kvm", "PLOVER_TEST_SLOWER": str(SLOWER), "PLOVER_TEST_SHARE": share}
    words = ["timeout", "-s", "INT", str(options.seconds), sys.executable, "-m", "pytest", "-v", "-o", "faulthandler_timeout=0"]
    for word in options.files:
        file, _, only = word.partition(":")
        more = [f"--junitxml={OUT}/{word}.xml", f"--basetemp={TMP}", f"tests/integration/test_{file}.py", *(["-k", only] if only else [])]
        done = subprocess.run([*words, *more], env=env, check=False)
        (OUT / f"{word}.status").write_text(str(done.returncode))
    return 0


if __name__ == "__main__":
    sys.exit(main())
