# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness's host is in other hands. The VM serves on, on both hosts; and the witness counts again once it is mended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from harness import connect, in_netns
from test_main_job import lost, write

from lab.paths import ROOT

LIES = 60  # each lie in each of the first views, nearly
SECONDS_MAX = 60.0


@contextmanager
def lying_witness(group):
    """A file with a line for each lie told."""
    told = group.folder / "lies"
    with open(told, "wb") as out:
        liar = subprocess.Popen(
            in_netns(sys.executable, str(Path(__file__).with_name("lying_witness.py")), str(group.folder / "witness" / "settings.json")),
            env={**os.environ, "PYTHONPATH": f"{group.python_path}:{ROOT}"},
            stdin=subprocess.DEVNULL,
            stdout=out,
        )
    try:
        yield lambda: told.read_text().count("\n")
    finally:
        liar.kill()
        liar.wait()


def test_a_witness_that_lies_costs_nobody_anything_but_its_links(group):
    client, acked = connect(), {}
    pids = {member: group.qemu_pid(member) for member in ("primary", "secondary")}
    group.power_off("witness")
    with lying_witness(group) as told:
        end = time.monotonic() + SECONDS_MAX
        while told() < LIES:
            assert time.monotonic() < end, (told(), group.story())
            write(client, acked, f"k{len(acked)}", "x" * 20)
    group.start("witness")
    group.wait("primary", service="protected", linked=["secondary", "witness"])
    failed_over = group.status("primary")["view"] != 1  # as a very busy machine may: no lie gets so far
    for member, pid in pids.items():
        assert group.daemons[member].poll() is None and (failed_over or group.qemu_pid(member) == pid), group.story()
        doubted = group.status(member)["doubted"]["witness"]
        assert failed_over or doubted["count"] >= LIES, doubted
        refused = group.status(member)["refused"]["witness"]
        assert refused["count"] >= 1 and refused["last"], refused
    assert group.status("primary")["view"] < 1000 and lost(client, acked) == []
    report = group.audit()
    assert report["mismatching"] == report["untracked"] == 0, report
