# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl drill`` with two real QEMUs and a client that writes all the time: the real command line on the leader's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from harness import REPLICAS, RUNTIME, connect
from test_switchover import Writer, protected_leader

CODE = "import sys, pathlib; from plover.ctl import commands as c; c.CONFIG_DIR = pathlib.Path(sys.argv.pop(1)); sys.exit(c.main())"


def ploverctl(group, member, *words):
    folder = group.folder / member / "ctl"
    folder.mkdir(exist_ok=True)
    (folder / "demo.json").write_bytes((group.folder / member / "settings.json").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), *words],
        env={**os.environ, "PYTHONPATH": str(RUNTIME)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_drill_breaks_no_connection_and_tells_what_clients_saw(group):
    leader = protected_leader(group)
    other = next(member for member in REPLICAS if member != leader)
    code, out, said = ploverctl(group, leader, "drill")
    assert (code, out) == (1, "") and "Add --yes to begin" in said
    code, out, said = ploverctl(group, other, "drill", "--yes", "-o", "json")
    assert code == 1 and f"run the drill on {leader}" in json.loads(out)["error"]
    connect(120.0).close()  # the guest has booted
    writer = Writer()
    writer.start()
    writer.writes(50)
    code, out, said = ploverctl(group, leader, "drill", "--yes", "--timeout", "120", "-o", "json")
    assert code == 0, (out, said, group.story())
    report = json.loads(out)
    writer.writes(50)
    writer.going = False
    writer.join(20)
    assert writer.error is None and not writer.is_alive()
    gaps = sorted((1000 * (b - a) for a, b in zip(writer.answers, writer.answers[1:])), reverse=True)
    print(out, f"the client's longest waits: {gaps[0]:.0f} ms and {gaps[1]:.0f} ms; {len(writer.answers)} writes")
    assert (report["from"], report["to"], report["leader"]) == (leader, other, leader)
    assert report["before"] == report["after"] == "protected" and "degraded" in [each["service"] for each in report["services"]]
    for half in ("there", "back"):
        assert 0 < report[half]["outage_ms"] <= gaps[0] + 50
    status = group.status(leader)
    assert (status["role"], status["service"]) == ("leader", "protected") and status["views"]["switchover"] >= 2
