# SPDX-License-Identifier: GPL-3.0-or-later
"""`make soak`, four minutes of it: nothing is lost and nothing grows. All of it: make soak MINUTES=600."""

from __future__ import annotations

import json

import pytest

from lab.hosts import HOSTS, down
from lab.soak import __main__ as soak
from lab.soak import judge

MINUTES = 4.0


@pytest.fixture(scope="module")
def result():
    try:
        yield soak.run(MINUTES)
    finally:
        assert down() == []


def test_nothing_is_lost_and_nothing_grows(result):
    assert judge.good(result), judge.table(result)
    assert result["rounds"] >= 4


def test_every_daemon_was_measured(result):
    judged = {(growth["who"].partition(" ")[0], growth["figure"]) for growth in result["growth"]}
    assert {(host, figure) for host in HOSTS for figure in ("heap_kib", "fds", "threads", "run_kib", "state_kib")} <= judged


def test_its_files_are_there(result):
    assert json.loads((soak.SOAK / "result.json").read_text())["samples"] == result["samples"] > 100
    assert "<svg" in (soak.SOAK / "soak.html").read_text()
