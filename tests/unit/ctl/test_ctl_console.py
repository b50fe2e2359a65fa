# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl console``: the end of the guest's log, what is new, and nothing that a terminal obeys."""

from __future__ import annotations

import itertools

import pytest
from plover.ctl import serial


@pytest.fixture
def log(tmp_path):
    return tmp_path / "console.log"


def test_the_last_lines_are_shown_and_those_of_the_older_part(log, capsys):
    log.write_bytes(b"".join(b"line %d\r\n" % n for n in range(5)) + b"half")
    (log.parent / "console.log.1").write_bytes(b"older 1\nolder 2\n")
    assert serial.console(log.parent, log.name, 2, False) == 0
    assert capsys.readouterr().out == "line 3\nline 4\n"
    assert serial.console(log.parent, log.name, 6, False) == 0
    assert capsys.readouterr().out.splitlines() == ["older 2", *(f"line {n}" for n in range(5))]


def test_what_a_terminal_would_obey_is_text_and_colours_are_left_out(log, capsys):
    log.write_bytes("[\x1b[0;32m  OK  \x1b[0m] Größe\n".encode() + b"\x1b]0;title\x07\x1b[2J\x9b\xff\x00 \xc2\x9b\n")
    assert serial.console(log.parent, log.name, 9, False) == 0
    assert capsys.readouterr().out == "[  OK  ] Größe\n\\x1b]0;title\\x07\\x1b[2J\\x9b\\xff\\x00 \\x9b\n"


def test_it_follows_whole_lines_also_when_the_log_begins_anew(log, capsys, monkeypatch):
    steps = itertools.count()

    def later(seconds):
        step = next(steps)
        if step == 0:
            with open(log, "ab") as file:
                file.write(b"cond\nthi")
        elif step == 1:
            log.write_bytes(b"new\n")  # shorter than before: it was cut
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(serial.time, "sleep", later)
    log.write_bytes(b"first\nse")
    assert serial.console(log.parent, log.name, 9, True) == 0
    assert capsys.readouterr().out.splitlines() == ["first", "second", "new"]


def test_only_the_end_of_a_huge_log_is_read(log, capsys, monkeypatch):
    monkeypatch.setattr(serial, "READ_BYTES_MAX", 40)
    log.write_bytes(b"".join(b"line %03d\n" % n for n in range(100)))
    assert serial.console(log.parent, log.name, 50, False) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [f"line {n:03}" for n in range(96, 100)]
    assert len(capsys.readouterr().out) < 60


def test_a_host_without_a_console_says_so_and_no_link_is_followed(log, tmp_path, capsys):
    assert serial.console(log.parent, log.name, 9, False) == 1
    assert "this host has no VM with a console" in capsys.readouterr().err
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    log.symlink_to(secret)
    assert serial.console(log.parent, log.name, 9, False) == 1 and "secret\n" not in capsys.readouterr().out
