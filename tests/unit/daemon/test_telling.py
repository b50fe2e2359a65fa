# SPDX-License-Identifier: GPL-3.0-or-later
"""From a note of the event log to the operator's command, and to the status: by a real daemon."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
import time

import pytest
from ctl_host import daemon, lead, run_ctl
from plover.config.settings import Config
from plover.core import told_events
from plover.core.told_events import Standing, ToldEvents
from plover.ctl import output
from plover.daemon import telling
from plover.daemon.telling import Telling
from plover.host import hook_command
from plover.host.history import stamp
from settings import settings

from lab.paths import ROOT

DOWN_AT_FIRST = ("mode", "no leader is heard", {"mode": "down", "before": None, "before_s": None})
DOWN_LATER = ("mode", "no leader is heard", {"mode": "down", "before": "protected", "before_s": 9.0})
DEGRADED = ("mode", "only b holds the VM's state", {"mode": "degraded", "before": "down", "before_s": 0.1})


@pytest.fixture
def hook(tmp_path):
    """A command that keeps what it is told, one file for each event."""
    path = tmp_path / "hook"
    path.write_text(f'#!/bin/sh\ncat >"{tmp_path}/new" && mv "{tmp_path}/new" "{tmp_path}/$PLOVER_EVENT.$PLOVER_ROLE.told"\n')
    path.chmod(0o700)
    return path


def told(tmp_path):
    return sorted(path.name for path in tmp_path.glob("*.told"))


def notes(tmp_path, hook, *given, more_s=0.0, budget_ms=1000):
    """What is told of these notes."""

    async def run():
        config = Config(settings("witness", on_event_command=[str(hook)], state_dir=str(tmp_path), failover_budget_ms=budget_ms))
        out = Telling(config, asyncio.get_running_loop(), lambda: Standing("witness", 7, "primary"))
        for note in given:
            out.note(*note)
        await asyncio.sleep(more_s)
        out._end_s = 20.0
        await out.close()
        return out.describe()["hooks"]

    return asyncio.run(run())


def test_a_note_is_told_with_the_members_role(tmp_path, hook):
    assert notes(tmp_path, hook, ("start", "version 1 started", {}), DEGRADED)["told"] == 1
    assert told(tmp_path) == ["degraded.witness.told"]
    event = json.loads((tmp_path / "degraded.witness.told").read_text())
    assert (event["vm"], event["view"], event["leader"], event["before"]) == ("demo", 7, "primary", "down")


def test_a_start_is_no_outage(tmp_path, hook, monkeypatch):
    monkeypatch.setattr(telling, "FIRST_LOOK_S", 0.02)
    notes(tmp_path, hook, DOWN_AT_FIRST, DEGRADED, more_s=0.2)
    assert told(tmp_path) == ["degraded.witness.told"]


def test_a_vm_that_stays_down_after_a_start_is_told(tmp_path, hook, monkeypatch):
    monkeypatch.setattr(telling, "FIRST_LOOK_S", 0.02)
    notes(tmp_path, hook, DOWN_AT_FIRST, more_s=0.2)
    assert told(tmp_path) == ["down.witness.told"]


def test_a_failover_that_goes_well_is_no_outage(tmp_path, hook):
    notes(tmp_path, hook, DOWN_LATER, DEGRADED, more_s=0.4, budget_ms=300)
    assert told(tmp_path) == ["degraded.witness.told"]


def test_one_that_does_not_is_told_with_the_moment_at_which_it_began(tmp_path, hook):
    before = stamp(time.time())
    notes(tmp_path, hook, DOWN_LATER, more_s=0.4, budget_ms=300)
    event = json.loads((tmp_path / "down.witness.told").read_text())
    assert event["before"] == "protected" and before <= event["at"] <= stamp(time.time() - 0.3)


def test_without_hooks_nothing_is_in_the_status(host):
    async def run():
        async with daemon(host) as (witness, _):
            return await witness.operator({"cmd": "status"})

    assert "hooks" not in asyncio.run(run())


def test_a_real_witness_tells_what_it_notes_and_counts(folder, tmp_path, hook, monkeypatch):
    monkeypatch.setattr("ctl_host.of", lambda member, path: witness_settings(path, hook))

    async def run():
        async with daemon(folder) as (witness, _):
            lead(witness, 0b001)
            witness.run()
            for happened in witness.event_log.look(witness.loop.time(), witness._service(), witness._sentence()):
                witness.note(*happened)
            end = time.monotonic() + 60
            while (status := await witness.operator({"cmd": "status"}))["hooks"]["told"] < 1:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
            return status["hooks"]

    assert asyncio.run(run()) == {"told": 1, "failed": 0, "dropped": 0, "waiting": 0, "last_error": ""}
    assert told(tmp_path) == ["degraded.witness.told"]


def witness_settings(path, hook):
    return settings("witness", run_dir=str(path), state_dir=str(path / "state"), on_event_command=[str(hook)])


def test_ploverctl_shows_what_was_not_told(host, capsys):
    hooks = {"told": 3, "failed": 0, "dropped": 0, "waiting": 1, "last_error": ""}
    assert run_ctl(host, "status", in_sync=0b011) == 0
    assert "hooks" not in capsys.readouterr().out
    assert output._hooks_lines(hooks) == []
    assert output._hooks_lines({**hooks, "dropped": 2}) == ["  hooks: 3 events told, 0 given up, 2 dropped"]
    (line,) = output._hooks_lines({**hooks, "failed": 1, "last_error": "on_event_command: ended with status 7"})
    assert line == "  hooks: 3 events told, 1 given up, 0 dropped; the last time: on_event_command: ended with status 7"


def test_the_script_of_the_documents_works_as_pasted(tmp_path):
    """But for the place that it is written to, and with a logger that writes to a file."""
    (script,) = re.findall(r"<<'END'\n(.*?\n) *END\n", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "plover-event"
    path.write_text(textwrap.dedent(script))
    path.chmod(0o700)
    logger = tmp_path / "logger"
    logger.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/logged\n')
    logger.chmod(0o700)
    for role, mode in (("leader", "degraded"), ("secondary", "degraded"), ("witness", "down")):
        event = ToldEvents("demo", "a").of("", "mode", "why not", {"mode": mode, "before": None, "before_s": None}, Standing(role, 2, None))
        environment = {**hook_command.ENVIRONMENT, **told_events.environment(event)}
        subprocess.run([str(path)], env={**environment, "PATH": f"{tmp_path}:{environment['PATH']}"}, check=True)
    assert (tmp_path / "logged").read_text().splitlines() == [
        "-t plover-event demo: degraded, view 2, leader none: why not",
        "-t plover-event demo: down, view 2, leader none: why not",
    ]


ENDS = """
import asyncio, sys
from pathlib import Path
from plover.daemon import life

class Ends(life.Daemon):
    async def setup(self):
        self.note("mode", "", {"mode": "degraded", "before": "protected", "before_s": 1.0})
        self.spawn(self._end())

    async def _end(self):
        while not Path(sys.argv[1]).with_name("own").exists():
            await asyncio.sleep(0.01)
        self.ending.set()

life.run_daemon(Ends, "witness")
"""


def test_a_daemon_ends_though_its_command_hangs_and_takes_it_along(tmp_path):
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho $$ >"{tmp_path}/new"; mv "{tmp_path}/new" "{tmp_path}/own"; exec sleep 1000\n')
    hook.chmod(0o700)
    path = tmp_path / "witness.json"
    path.write_text(json.dumps(settings("witness", state_dir=str(tmp_path), on_event_command=[str(hook)], on_event_timeout_s=60)))
    (tmp_path / "demo").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins" / "module_utils")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(f"/proc/{(tmp_path / 'own').read_text().strip()}")
