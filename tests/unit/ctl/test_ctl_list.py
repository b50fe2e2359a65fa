# SPDX-License-Identifier: GPL-3.0-or-later
"""`ploverctl list`, and `status` on a host with several VMs: real settings, real control sockets."""

from __future__ import annotations

import json
import os
import pty
import struct
import termios
import time
from fcntl import ioctl

import pytest
from plover.ctl import commands as ctl
from plover.ctl import vms
from several_vms import ploverctl

CELLS = ["vm", "service", "role", "leader", "view", "for", "what it does"]
HUNG = [f"hung-{n}" for n in range(8)]


def rows(out):
    return {line.split()[0]: line for line in out.splitlines()[1:]}


def test_one_line_per_vm_with_what_an_operator_asks_for(daemons, capsys):
    daemons.serve("shop")
    daemons.serve("mail", service="degraded", role="secondary", leader="secondary", view=12, since=4.2, sentence="following")
    assert ctl.main(["list"]) == 1
    out = capsys.readouterr().out
    assert [cell.strip() for cell in out.splitlines()[0].split("  ") if cell.strip()] == CELLS
    assert rows(out) == {
        "mail": "mail  degraded   secondary  secondary  12    4.2 s      following",
        "shop": "shop  protected  leader     primary    3     2 h 3 min  leading; secondary is in sync and can take over at any moment",
    }


@pytest.mark.parametrize(("service", "code"), [("protected", 0), ("degraded", 1), ("down", 2), ("of a later version", 2), (["x"], 2)])
def test_the_exit_status_is_the_worst_vms(daemons, capsys, service, code):
    daemons.serve("shop")
    daemons.serve("mail", service=service)
    assert ctl.main(["list"]) == ctl.main(["status"]) == code


def test_a_vm_without_an_answer_is_a_line_and_keeps_nobody_waiting(daemons, capsys):
    daemons.settled("dead")
    for name in HUNG:
        daemons.hang(name)
    daemons.serve("shop")
    began = time.monotonic()
    assert ctl.main(["list"]) == 2
    assert vms.ANSWER_S <= time.monotonic() - began < len(HUNG) * vms.ANSWER_S
    found = rows(capsys.readouterr().out)
    assert all("no answer" in found[name] for name in ("dead", *HUNG)) and "protected" in found["shop"]
    assert "plover-replica@dead" in found["dead"] and "timed out" in found["hung-1"]


def test_settings_that_cannot_be_used_are_a_line_too(daemons, capsys):
    daemons.serve("shop")
    (daemons.folder / "broken.json").write_text("{}")
    assert ctl.main(["list"]) == 2
    found = rows(capsys.readouterr().out)
    assert "broken.json: name: is required" in found["broken"] and "protected" in found["shop"]


def test_without_a_vm_there_is_a_word_and_no_failure(daemons, capsys):
    assert ctl.main(["list"]) == 0
    assert f"no VM in {daemons.folder}: " in capsys.readouterr().out
    assert ctl.main(["list", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "vms": []}


def test_json_has_each_status_whole(daemons, capsys):
    says = daemons.serve("shop")
    daemons.settled("dead")
    for command in ("list", "status"):
        assert ctl.main([command, "-o", "json"]) == 2
        reply = json.loads(capsys.readouterr().out)
        dead, shop = reply["vms"]
        assert not reply["ok"] and shop == {"ok": True, **says.status} and (dead["name"], dead["ok"]) == ("dead", False)


def test_status_with_several_vms_lists_them_and_with_a_name_shows_one(daemons, capsys):
    daemons.serve("shop")
    daemons.serve("mail")
    assert ctl.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert ctl.main(["status"]) == 0
    assert capsys.readouterr().out == listed
    for words in (["--vm", "mail", "status"], ["status", "--vm", "mail"]):
        assert ctl.main(words) == 0
        assert capsys.readouterr().out.startswith("mail: protected\n  primary is leader")
    assert ctl.main(["--vm", "mail", "list"]) == 0
    assert list(rows(capsys.readouterr().out)) == ["mail"]


@pytest.mark.parametrize("words", [["status", "--watch"], ["history"], ["switchover"], ["audit"], ["failover"], ["cold-start"]])
def test_other_verbs_want_a_name_and_say_which_there_are(daemons, capsys, words):
    daemons.settled("shop")
    daemons.settled("mail")
    assert ctl.main(words) == 2
    assert "2 VMs in" in (error := capsys.readouterr().err) and "--vm NAME (mail, shop)" in error


def test_nothing_a_daemon_says_reaches_the_terminal_as_a_command(daemons, capsys):
    daemons.serve("shop", sentence="a\x1b[2Jb\nc", role="\x07", leader=["x"], view="3", since="long")
    assert ctl.main(["list"]) == 0
    out = capsys.readouterr().out
    assert "a?[2Jb c" in out and "\x1b" not in out and "\x07" not in out and len(out.splitlines()) == 2


def test_a_sentence_is_as_long_as_the_terminal_allows(daemons):
    daemons.serve("shop")
    for width in (70, 200):
        master, terminal = pty.openpty()
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        process = ploverctl(daemons.folder, "list", stdout=terminal)
        os.close(terminal)
        assert process.wait(20) == 0, process.stderr.read()
        lines = os.read(master, 65_536).decode().splitlines()
        os.close(master)
        assert len(lines) == 2 and all(len(line) <= width for line in lines)
        assert lines[1].endswith("…") == (width == 70) and "leading; s" in lines[1]
        process.stderr.close()


def test_more_vms_than_are_asked_are_named(daemons, monkeypatch, capsys):
    monkeypatch.setattr(vms, "VMS_MAX", 1)
    daemons.serve("shop")
    daemons.serve("tall")
    assert ctl.main(["list"]) == 2
    found = rows(capsys.readouterr().out)
    assert "protected" in found["shop"] and "over 1 VMs; ask with --vm NAME" in found["tall"]
