# SPDX-License-Identifier: GPL-3.0-or-later
"""The database clients' accounting and judgement, on histories known to be good and bad."""

from __future__ import annotations

import random

import pytest

from lab.pg_client import statements
from lab.pg_history import ACKED, OPEN, UNKNOWN, Found, Recorder, judge

EVEN = {"accounts": 7, "tellers": 7, "branches": 7, "history": 7}


def recorded() -> tuple[Recorder, dict[str, str]]:
    """Two acknowledged, one unknown, one that was never committed."""
    recorder = Recorder("run")
    names = {what: recorder.begin(client) for client, what in enumerate(("a", "b", "unknown", "open"))}
    for what in ("a", "b", "unknown"):
        recorder.committing(names[what])
    recorder.acknowledged(names["a"], 1.0)
    recorder.acknowledged(names["b"], 1.5)
    return recorder, names


def verdict(names: list[str], sums: dict[str, int] = EVEN, checks: tuple[str, ...] = ()) -> dict:
    return judge(recorded()[0], Found(names, sums, list(checks)))


def test_a_commit_is_acknowledged_only_when_it_was_answered():
    recorder, names = recorded()
    assert recorder.states == {names["a"]: ACKED, names["b"]: ACKED, names["unknown"]: UNKNOWN, names["open"]: OPEN}
    assert len({recorder.begin(client) for client in (0, 1) for _ in range(3)} | set(names.values())) == 10


@pytest.mark.parametrize("unknown_is_there", [False, True])
def test_good(unknown_is_there):
    _, names = recorded()
    there = [names["a"], names["b"], "other-run.0.1"] + [names["unknown"]] * unknown_is_there
    assert verdict(there) == {
        "acked_commits": 2,
        "lost": 0,
        "unknown": 1,
        "connections_broken": 0,
        "outage_ms": 500,
        "database_checks_ok": True,
        "problems": [],
    }


def test_a_lost_commit():
    _, names = recorded()
    result = verdict([names["a"]])
    assert result["lost"] == 1 and result["database_checks_ok"]
    assert result["problems"] == [f"acknowledged, but not there: {names['b']}"]


@pytest.mark.parametrize("twice", ["a", "unknown"])
def test_a_commit_done_twice(twice):
    _, names = recorded()
    result = verdict([names["a"], names["b"], names["unknown"], names[twice]])
    assert result["lost"] == 0 and not result["database_checks_ok"]
    assert result["problems"] == [f"there more than once: {names[twice]}"]


def test_what_was_never_committed_must_not_be_there():
    _, names = recorded()
    for stray in (names["open"], "run.9.9"):
        assert verdict([names["a"], names["b"], stray])["problems"] == [f"there, but never committed: {stray}"]


@pytest.mark.parametrize("table", list(EVEN))
@pytest.mark.parametrize("value", [6, 0, None])
def test_sums_that_differ(table, value):
    _, names = recorded()
    result = verdict([names["a"], names["b"]], {**EVEN, table: value})
    assert not result["database_checks_ok"] and result["problems"][0].startswith("sums differ: ")


def test_what_the_database_itself_says_and_refusals():
    _, names = recorded()
    result = verdict([names["a"], names["b"]], checks=("amcheck, index i: broken",))
    assert not result["database_checks_ok"] and result["problems"] == ["amcheck, index i: broken"]
    recorder, names = recorded()
    recorder.refusals += ["disk full"]
    result = judge(recorder, Found([names["a"], names["b"]], EVEN, []))
    assert result["database_checks_ok"] and result["problems"] == ["1 statements were refused: disk full"]


def test_many_names_are_cut_short():
    recorder = Recorder("run")
    for _ in range(9):
        recorder.acknowledged(recorder.begin(0), 1.0)
    result = judge(recorder, Found([], EVEN, []))
    assert result["lost"] == 9 and result["problems"][0].endswith(" and 4 more")


def test_no_commit_is_no_outage():
    assert Recorder("run").outage_ms() == 0


def test_statements_move_one_amount_and_leave_the_commit_to_the_client():
    said = statements("run.1.1", random.Random(1))
    delta = said[1].split("+ ")[1].split()[0]
    assert said[0] == "BEGIN" and not any("COMMIT" in statement for statement in said)
    assert [f"+ {delta} " in statement for statement in said] == [False, True, False, True, True, False]
    assert f"{delta}, now()" in said[-1] and "'run.1.1'" in said[-1]
