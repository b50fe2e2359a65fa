# SPDX-License-Identifier: GPL-3.0-or-later
"""`ploverctl events`: real files, written by the real writer; streams are read from a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest
from plover.ctl import commands as ctl
from plover.host.history import History, stamp
from several_vms import ploverctl

NOON = 1_790_000_000.0
SOON_S = 20.0


class Notes:
    """The histories of several VMs by one clock: a second passes with each note."""

    def __init__(self, daemons):
        self.daemons, self.now, self.histories = daemons, NOON, {}

    def __call__(self, name, kind="start", why="", **facts):
        if name not in self.histories:
            self.histories[name] = History(self.daemons.settled(name), lambda: self.now)
        self.now += 1
        self.histories[name].note(kind, why, facts)
        assert self.histories[name].flush()


@pytest.fixture
def note(daemons):
    return Notes(daemons)


def failover(note, vm="shop"):
    note(vm, "view", "primary was silent", view=2, leader="secondary", cause="failover")
    note(vm, "serving", view=2, outage_ms=187.4)
    note(vm, "mode", "failover in view 2", mode="degraded", before="protected", before_s=86_400.0)


def test_the_entries_of_one_vm(note, daemons, capsys):
    failover(note)
    note("mail", why="of another VM")
    assert ctl.main(["--vm", "shop", "events"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{stamp(NOON + 1)}  view 2          secondary leads: failover, primary was silent",
        f"{stamp(NOON + 2)}  view 2          serving; clients waited 187 ms",
        f"{stamp(NOON + 3)}  degraded        failover in view 2 (protected before, for 1 d 0 h)",
    ]


def test_all_vms_are_merged_by_time_with_their_names_in_front(note, daemons, capsys):
    for n, vm in enumerate(("shop", "mail", "shop", "mail", "mail")):
        note(vm, why=f"start {n}")
    assert ctl.main(["events"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["shop", "mail", "shop", "mail", "mail"]
    assert [line.split()[-1] for line in lines] == ["0", "1", "2", "3", "4"]
    assert ctl.main(["events", "-n", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == lines[-2:]


def test_json_is_an_object_a_line(note, daemons, capsys):
    failover(note)
    note("mail", why="version 1", vm="forged")
    assert ctl.main(["events", "-o", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["vm"] for row in rows] == ["shop", "shop", "shop", "mail"]
    assert rows[1] == {"vm": "shop", "at": stamp(NOON + 2), "kind": "serving", "why": "", "view": 2, "outage_ms": 187.4}


def test_damaged_lines_are_counted_beside_the_stream(note, daemons, capsys):
    failover(note)
    with open(note.histories["shop"].path, "ab") as file:
        file.write(b"nonsense\n{}\n")
    assert ctl.main(["events", "-o", "json"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3 and said.err == "ploverctl: shop: 2 damaged lines passed over\n"


def test_a_vm_that_cannot_be_read_is_told_and_costs_no_other(note, daemons, capsys):
    failover(note)
    (daemons.folder / "broken.json").write_text("{}")
    (daemons.settled("folder") / "history.jsonl").mkdir()
    assert ctl.main(["events"]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3
    assert "broken.json: name: is required" in said.err and "Is a directory" in said.err


def test_words_that_others_chose_do_not_reach_the_terminal_as_commands(note, daemons, capsys):
    note("shop", "mode", "\x1b[2J\n", mode="\x07", before=None, before_s=None)
    assert ctl.main(["events"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and len(out.splitlines()) == 1


def test_without_a_vm_there_is_a_word(daemons, capsys):
    assert ctl.main(["events"]) == 0
    assert "no VM in" in capsys.readouterr().err
    assert ctl.main(["--vm", "other", "events"]) == 2


# --- a stream ---


def line(process):
    return process.stdout.readline()


def test_a_stream_goes_on_across_files_and_with_a_vm_that_comes_until_ctrl_c(note, daemons):
    note("shop", why="first")
    process = ploverctl(daemons.folder, "events", "--follow", "-n", "1", "-o", "json")
    try:
        assert json.loads(line(process))["why"] == "first"
        for n in range(3):
            note("shop", why=str(n))
            assert json.loads(line(process))["why"] == str(n)
        path = note.histories["shop"].path
        path.rename(path.with_name("history.1.jsonl"))
        note("shop", why="in a new file")
        assert json.loads(line(process))["why"] == "in a new file"
        note("mail", why="of a new VM")
        new = json.loads(line(process))
        assert (new["vm"], new["why"]) == ("mail", "of a new VM")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SOON_S)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("words", [["events", "--follow"], ["events"]])
def test_a_reader_that_has_gone_is_the_end(note, daemons, words):
    for n in range(300):
        note("shop", why=f"{n}{'x' * 400}")
    process = ploverctl(daemons.folder, *words, "-n", "300")
    assert line(process)
    process.stdout.close()
    try:
        deadline = time.monotonic() + SOON_S
        while process.poll() is None and time.monotonic() < deadline:
            note("shop", why="more")
            time.sleep(0.05)
        assert (process.wait(1), process.stderr.read()) == (0, "")
    finally:
        process.kill()
        process.stderr.close()


def test_a_watcher_of_the_status_ends_the_same_way(daemons):
    says = daemons.serve("shop")
    process = ploverctl(daemons.folder, "status", "--watch")
    assert "protected" in line(process)
    process.stdout.close()
    says.status["service"] = "degraded"
    try:
        assert process.wait(SOON_S) == 1 and process.stderr.read() == ""
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    finally:
        process.stderr.close()
