# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a history: each entry once and in order, whatever happens to the two files. Real files, written by the real writer."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from plover.host import history, history_tail
from plover.host.history import History
from plover.host.history_tail import Tail

from tests.examples import examples

NOON = 1_790_000_000.0


class Writer:
    def __init__(self, folder):
        self.folder, self.history, self.count = folder, History(folder, lambda: NOON + self.count), 0

    def note(self, many=1):
        for _ in range(many):
            self.count += 1
            self.history.note("start", str(self.count), {})
        assert self.history.flush()


@pytest.fixture
def writer(tmp_path):
    return Writer(tmp_path)


@pytest.fixture
def small_files(monkeypatch):
    """Each holds three entries."""
    monkeypatch.setattr(history, "BYTES_MAX", 220)


def whys(entries):
    return [int(entry["why"]) for entry in entries]


def test_what_is_there_comes_first_and_then_what_is_new(writer):
    writer.note(2)
    tail = Tail(writer.folder)
    assert whys(tail.look()) == [1, 2] and tail.look() == []
    writer.note()
    assert whys(tail.look()) == [3]
    tail.close()


def test_a_history_that_does_not_exist_yet_is_waited_for(writer, tmp_path):
    tail = Tail(tmp_path)
    assert tail.look() == [] == tail.look()
    writer.note()
    assert whys(tail.look()) == [1] and tail.damaged == 0
    tail.close()


def test_both_files_are_read_and_followed(writer, small_files):
    writer.note(5)
    assert history.older(writer.history.path).exists()
    tail = Tail(writer.folder)
    assert whys(tail.look()) == [1, 2, 3, 4, 5]
    writer.note(2)  # the files change between 6 and 7
    assert whys(tail.look()) == [6, 7]
    tail.close()


def test_what_was_written_before_the_files_changed_is_not_lost(writer, small_files):
    writer.note(1)
    tail = Tail(writer.folder)
    assert whys(tail.look()) == [1]
    writer.note(8)  # they change twice
    assert whys(tail.look()) == list(range(2, 10))
    tail.close()


@given(st.lists(st.integers(0, 6), max_size=12))
@limits(max_examples=examples(60))
def test_each_entry_comes_once_and_in_order(batches):
    """Up to six entries between two looks: the files change twice at most."""
    before = history.BYTES_MAX
    history.BYTES_MAX = 220
    try:
        with tempfile.TemporaryDirectory() as path:
            writer, tail, seen = Writer(Path(path)), Tail(Path(path)), []
            for many in batches:
                writer.note(many)
                seen += whys(tail.look())
            assert seen == list(range(1, writer.count + 1)) and tail.damaged == 0
            tail.close()
    finally:
        history.BYTES_MAX = before


def test_a_line_that_is_not_written_whole_is_waited_for(writer):
    writer.note()
    tail = Tail(writer.folder)
    tail.look()
    line = json.dumps({"at": history.stamp(NOON), "kind": "start", "why": "2"}).encode()
    with open(writer.history.path, "ab") as file:
        for n in range(0, len(line), 20):
            file.write(line[n : n + 20])
            file.flush()
            assert tail.look() == []
        file.write(b"\n")
        file.flush()
        assert whys(tail.look()) == [2] and tail.damaged == 0
    tail.close()


@pytest.mark.parametrize("line", [b"nonsense", b"{}", b"\xff\xfe", b"[" * 4000, b"x" * 50_000, b'{"at": "", "kind": "start", "why": ""}'])
def test_a_damaged_line_is_counted_once_and_costs_no_other(writer, line):
    writer.note()
    tail = Tail(writer.folder)
    tail.look()
    with open(writer.history.path, "ab") as file:
        file.write(line[:30_000])
        file.flush()
        assert tail.look() == []
        file.write(line[30_000:] + b"\n")
    writer.note()
    assert whys(tail.look()) == [2] and tail.damaged == 1
    tail.close()


def test_a_line_cut_off_for_good_is_damaged(writer, small_files):
    writer.note()
    tail = Tail(writer.folder)
    tail.look()
    with open(writer.history.path, "ab") as file:
        file.write(b'{"at": "2026-')
    writer.note(4)
    assert whys(tail.look()) == [2, 3, 4, 5] and tail.damaged == 1
    tail.close()


def test_a_file_that_somebody_cut_off_is_read_from_its_beginning(writer):
    writer.note(3)
    tail = Tail(writer.folder)
    tail.look()
    os.truncate(writer.history.path, 0)
    assert tail.look() == []
    writer.note()
    assert whys(tail.look()) == [4]
    tail.close()


def test_a_look_reads_so_much_and_no_more(writer, monkeypatch):
    monkeypatch.setattr(history_tail, "READ_BYTES", 100)
    tail = Tail(writer.folder)
    assert tail.look() == []
    writer.note(5)
    looks = [whys(tail.look()) for _ in range(5)]
    assert sum(looks, []) == [1, 2, 3, 4, 5] and max(map(len, looks)) < 3
    tail.close()


def test_a_file_that_cannot_be_read_is_an_error_and_a_pipe_does_not_hang(tmp_path):
    (tmp_path / "history.jsonl").mkdir()
    with pytest.raises(OSError):
        Tail(tmp_path).look()
    (tmp_path / "history.jsonl").rmdir()
    os.mkfifo(tmp_path / "history.jsonl")
    with pytest.raises(OSError):
        Tail(tmp_path).look()
