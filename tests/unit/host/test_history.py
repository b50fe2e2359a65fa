# SPDX-License-Identifier: GPL-3.0-or-later
"""The history's file: bounded, survives what happens to files, and harms nobody; and how it is shown."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.ctl import commands as ctl
from plover.host import history
from plover.host.history import BYTES_MAX, PENDING_MAX, History, read, seconds_of, stamp, table, with_durations
from settings import settings

NOON = 1_790_000_000.25


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        self.now += 1
        return self.now


def filled(folder):
    """A failover and what came after it, as a new leader notes it."""
    out = History(folder, Clock())
    out.note("start", "version 1 started", {})
    out.note("mode", "being filled", {"mode": "degraded", "before": None, "before_s": None})
    out.note("view", "", {"view": 1, "leader": "primary", "cause": "first boot"})
    out.note("mode", "ready", {"mode": "protected", "before": "degraded", "before_s": 2.5})
    out.note("view", "primary was silent", {"view": 2, "leader": "secondary", "cause": "failover"})
    out.note("serving", "", {"view": 2, "outage_ms": 187.4})
    out.note("mode", "failover in view 2", {"mode": "degraded", "before": "protected", "before_s": 86_400.0})
    assert out.flush()
    return out


def test_what_was_noted_is_read_with_durations_and_the_outage(tmp_path):
    filled(tmp_path)
    entries, damaged = read(tmp_path)
    assert damaged == 0 and [e["kind"] for e in entries] == ["start", "mode", "view", "mode", "view", "serving", "mode"]
    rows = with_durations(entries, NOON + 100)
    shown = [(r["kind"], r["lasted_s"], r["ended"]) for r in rows]
    assert shown == [
        ("start", 0.0, True),
        ("mode", 2.5, True),
        ("view", 2.0, True),
        ("mode", 86_400.0, True),
        ("view", 95.0, False),
        ("mode", 93.0, False),
    ]
    assert [r["outage_ms"] for r in rows if r["kind"] == "view"] == [None, 187.4]
    lines = table(rows)
    assert lines[5].split(maxsplit=1) == [
        stamp(NOON + 5),
        "view 2          1 min 35 s so far  secondary leads: failover, primary was silent; clients waited 187 ms",
    ]
    assert "protected       1 d 0 h       ready" in lines[4]


def test_a_restart_goes_on_in_the_same_file_and_ends_the_mode(tmp_path):
    filled(tmp_path)
    again = History(tmp_path, lambda: NOON + 50)
    again.note("start", "version 1 started", {})
    again.note("view", "", {"view": 2, "leader": "secondary", "cause": "found leading"})
    assert again.flush()
    rows = with_durations(read(tmp_path)[0], NOON + 100)
    assert [r["lasted_s"] for r in rows if r["kind"] == "mode"][-1] == 43.0
    assert [(r["view"], r["ended"]) for r in rows if r["kind"] == "view"] == [(1, True), (2, False)]  # not twice


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_was_cut_off_costs_itself_only(tmp_path, cut):
    log = filled(tmp_path)
    os.truncate(log.path, log.path.stat().st_size - cut)
    log.note("start", "after", {})
    assert log.flush()
    entries, damaged = read(tmp_path)
    assert damaged == (1 if cut > 1 else 0) and entries[-1]["why"] == "after"
    assert len(entries) == (7 if cut > 1 else 8)


BAD = [
    b"nonsense",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 4000,
    b"x" * 10_000,
    b'{"at": 7, "kind": "start", "why": ""}',
    b'{"at": "2026-01-01T00:00:00.000Z", "kind": "party", "why": ""}',
    b'{"at": "2026-01-01T00:00:00.000Z", "kind": "view", "why": ""}',
    b'{"at": "2026-01-01T00:00:00.000Z", "kind": ["view"], "why": ""}',
    b'{"at": "yesterday", "kind": "start", "why": ""}',
    b'{"at": "2026-01-01T00:00:00.000Z", "kind": "start", "why": 3}',
]


def test_damaged_lines_are_passed_over_and_counted(tmp_path):
    log = filled(tmp_path)
    good = log.path.read_bytes().splitlines()
    log.path.write_bytes(b"\n".join([*BAD, *good, *BAD]))
    entries, damaged = read(tmp_path)
    assert (len(entries), damaged) == (len(good), 2 * len(BAD))


@given(st.binary(max_size=400))
def test_no_content_breaks_the_reader(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("h")
    (folder / "history.jsonl").write_bytes(content)
    entries, damaged = read(folder)
    assert table(with_durations(entries, NOON)) and damaged <= len(content)


words = st.text(max_size=40)
numbers = st.none() | st.integers(0, 2**40) | st.floats(0, 1e9, allow_nan=False)
facts = {
    "view": st.fixed_dictionaries({"view": st.integers(1, 2**63), "leader": words, "cause": words}),
    "serving": st.fixed_dictionaries({"view": st.integers(1, 2**63), "outage_ms": numbers}),
    "mode": st.fixed_dictionaries({"mode": words, "before": st.none() | words, "before_s": numbers}),
    "start": st.just({}),
}
one_note = st.sampled_from(sorted(facts)).flatmap(lambda kind: st.tuples(st.just(kind), words, facts[kind]))


@given(st.lists(one_note, max_size=5))
def test_any_note_is_read_as_it_was_written(tmp_path_factory, written):
    log = History(tmp_path_factory.mktemp("h"), Clock())
    for kind, why, known in written:
        log.note(kind, why, known)
    assert log.flush()
    entries, damaged = read(log.path.parent)
    assert damaged == 0
    assert [(e.pop("kind"), e.pop("why"), {key: e[key] for key in e if key != "at"}) for e in entries] == written


def test_any_byte_may_be_another_and_costs_its_own_line_only(tmp_path):
    log = filled(tmp_path)
    whole = log.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    good = read(tmp_path)[0]
    for at in range(len(whole)):
        log.path.write_bytes(whole[:at] + bytes([whole[at] ^ (0x01, 0x81)[at % 2]]) + whole[at + 1 :])
        entries, damaged = read(tmp_path)
        hit = sum(at >= sum(map(len, lines[: n + 1])) for n in range(len(lines)))
        lost = {hit, hit + 1} if whole[at : at + 1] == b"\n" else {hit}  # without the end between them two lines run together
        assert [e for n, e in enumerate(good) if n not in lost] == [e for e in entries if e in good] and damaged <= 1
        assert table(with_durations(entries, NOON))


def test_two_files_bound_it_and_the_newest_stays(tmp_path):
    log = History(tmp_path)
    for n in range(3 * BYTES_MAX // 500):
        log.note("start", f"{n} " + "x" * 480, {})
        assert log.flush()
    sizes = [p.stat().st_size for p in tmp_path.iterdir()]
    assert len(sizes) == 2 and max(sizes) <= BYTES_MAX
    entries, damaged = read(tmp_path)
    assert damaged == 0 and entries[-1]["why"].startswith(f"{n} ")
    numbers = [int(e["why"].split()[0]) for e in entries]
    assert numbers == list(range(numbers[0], n + 1))


def test_a_full_disk_keeps_a_bounded_number_in_memory_and_is_made_up_for(tmp_path, monkeypatch):
    log = filled(tmp_path)
    real, room = os.write, [10]

    def full(fd, data):
        if not room:
            return real(fd, data)
        return real(fd, data[: room[0]]) if room[0] else (_ for _ in ()).throw(OSError(28, "No space left on device"))

    monkeypatch.setattr(history.os, "write", full)
    for n in range(PENDING_MAX + 5):
        log.note("start", str(n), {})
        if n < 5:
            assert not log.flush()
            room[0] = 0
    assert "No space left on device" in log.error and "wait in memory" in log.error and log.lost == 5
    room.clear()
    assert log.flush() and log.error == ""
    entries, damaged = read(tmp_path)
    assert damaged == 1  # the ten bytes that found room
    assert [e["why"] for e in entries[7:]] == [str(n) for n in range(5, PENDING_MAX + 5)]


def test_a_folder_that_is_gone_is_no_error_to_the_daemon(tmp_path):
    log = History(tmp_path / "gone")
    log.note("start", "", {})
    assert not log.flush() and "No such file" in log.error
    assert read(tmp_path / "gone") == ([], 0)


@given(st.floats(0, 4e9))
def test_times_come_back(seconds):
    assert abs(seconds_of(stamp(seconds)) - seconds) < 0.0011


@pytest.mark.parametrize("seconds, text", [(0.0871, "87 ms"), (4.04, "4.0 s"), (61, "1 min 1 s"), (7322, "2 h 2 min"), (90_000, "1 d 1 h")])
def test_durations_for_people(seconds, text):
    assert history.duration(seconds) == text


def test_ploverctl_history_needs_no_daemon(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ctl, "CONFIG_DIR", tmp_path)
    for member in ("primary", "witness"):
        (tmp_path / "demo.json").write_text(json.dumps(settings(member, state_dir=str(tmp_path / "state"))))
        (tmp_path / "state" / "demo").mkdir(parents=True, exist_ok=True)
        log = filled(tmp_path / "state" / "demo")
        with open(log.path, "ab") as file:
            file.write(b"broken\n")
        assert ctl.main(["history"]) == 0
        out = capsys.readouterr().out
        assert "secondary leads: failover, primary was silent; clients waited 187 ms" in out
        assert "(1 damaged lines passed over)" in out
        assert ctl.main(["history", "-o", "json", "-n", "2"]) == 0
        reply = json.loads(capsys.readouterr().out)
        assert (reply["ok"], reply["damaged"], [e["kind"] for e in reply["entries"]]) == (True, 1, ["view", "mode"])
        log.path.unlink()


def test_ploverctl_history_of_a_host_without_one_is_an_empty_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ctl, "CONFIG_DIR", tmp_path)
    (tmp_path / "demo.json").write_text(json.dumps(settings("primary", state_dir=str(tmp_path / "state"))))
    assert ctl.main(["history"]) == 0
    assert capsys.readouterr().out.splitlines() == ["when (UTC)                what            lasted        why"]
