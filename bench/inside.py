# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks run in network, process and mount namespaces of their own: nothing of theirs meets the machine's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from lab.paths import ROOT

MARK = "PLOVER_BENCH_INSIDE"


def run(module: str, prepare: Callable[[], object]) -> int | None:
    """None if we are inside. If not: ``prepare`` what must be fetched, as there is no way out from inside, and run
    ``module`` there with our arguments; its exit status."""
    if os.environ.get(MARK) == "1":
        return None
    prepare()
    enter = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
    return subprocess.run([*enter, sys.executable, "-m", module, *sys.argv[1:]], cwd=ROOT, env={**os.environ, MARK: "1"}).returncode
