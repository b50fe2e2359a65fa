# SPDX-License-Identifier: GPL-3.0-or-later
"""A suspended host counts as one that hung: a real daemon's loop goes by the clock that goes on in a suspend."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from settings import settings

from lab.paths import ROOT

DAEMON = """
import asyncio, sys, time
from plover.daemon import life as daemon

class Told(daemon.Daemon):
    async def setup(self):
        print(self.loop.time() - time.monotonic())
        self.spawn(self._tick())

    async def _tick(self):
        for _ in range(20):
            self.alive()
            await asyncio.sleep(0.01)
        self.ending.set()

"""
SUSPEND = """
real, began = time.clock_gettime, time.monotonic()
time.clock_gettime = lambda clock: real(clock) + 60 * (clock == time.CLOCK_BOOTTIME and time.monotonic() - began > 0.1)
"""
RUN = 'daemon.run_daemon(Told, "witness")'


def run(tmp_path, script: str, *before: str) -> subprocess.CompletedProcess:
    path = tmp_path / "witness.json"
    path.write_text(json.dumps(settings("witness", state_dir=str(tmp_path))))
    (tmp_path / "demo").mkdir()
    return subprocess.run(
        [*before, sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins" / "module_utils")},
        check=False,
    )


def test_a_suspend_is_noticed_as_a_hang(tmp_path):
    done = run(tmp_path, DAEMON + SUSPEND + RUN)
    assert done.returncode == 0, done.stderr
    assert "this daemon could not run for 60" in done.stderr


def test_the_kernels_own_clock_says_so(tmp_path):
    """In a time namespace in which the host was suspended for 1000 s."""
    suspended = ("unshare", "--time", "--boottime", "1000", "--fork")
    if subprocess.run([*suspended, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespaces here (they need root)")
    done = run(tmp_path, DAEMON + RUN, *suspended)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 999
