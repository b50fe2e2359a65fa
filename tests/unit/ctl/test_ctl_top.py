# SPDX-License-Identifier: GPL-3.0-or-later
"""`ploverctl top`: the real library draws; the terminal is a pseudo-terminal, and the daemons are real control sockets."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import termios
import time
from fcntl import ioctl

import pytest
from plover.ctl import commands as ctl
from plover.ctl import vms
from plover.ctl.figures import Look, Pair, sent_bytes, size, syncvms
from several_vms import LEADER, ploverctl

SOON_S = 20.0
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")


@pytest.fixture(autouse=True)
def no_width_given(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest's workers have it


def once(daemons, capsys, *words):
    assert ctl.main(["top", "--once", "--interval", "0.1", *words]) == 0
    return capsys.readouterr().out


def cells(out, name):
    """Of the line that begins with the VM's name."""
    (line, *_) = [line for line in out.splitlines() if line.startswith(name)]
    return re.split(r"  +", line.strip())


def test_a_frame_shows_each_figure(daemons, capsys):
    daemons.serve("shop")
    out = once(daemons, capsys)
    head, titles, *_ = out.splitlines()
    assert head.endswith("1 VM: 1 protected") and "\x1b" not in out
    assert re.split(r"  +", titles.strip()) == [
        *("vm", "service", "role", "leader", "view", "in sync"),
        *("last syncvm", "pause ms", "dirty", "divergent", "syncvms/s", "sent/s", "held"),
    ]
    assert cells(out, "shop") == [
        *("shop", "protected", "leader", "primary", "3", "primary, secondary"),
        *("250 ms", "2", "812", "33", "0.0", "0 B", "1.5 KiB"),
    ]
    assert f"shop  {LEADER['sentence']}" in out


def test_rates_are_of_the_time_between_two_looks(daemons, capsys):
    says = daemons.serve("shop")

    def grow():
        """Each look sees 20 syncvms more, and a MiB sent for each."""
        count = says.status["totals"]["syncvms"] + 20
        says.status |= {"totals": {"syncvms": count}, "counters": {"sent_bytes": {"pages": count << 20}}}

    says.asked = grow
    assert ctl.main(["top", "--once", "--interval", "0.5"]) == 0
    found = cells(capsys.readouterr().out, "shop")
    assert 0 < float(found[10]) <= 40 and found[11].endswith(" MiB") and 0 < float(found[11].split()[0]) <= 40


@pytest.mark.parametrize("service", ["protected", "degraded", "down"])
def test_the_service_is_a_word(daemons, capsys, service):
    daemons.serve("shop", service=service)
    assert cells(once(daemons, capsys), "shop")[1] == service


def test_a_daemon_that_hangs_keeps_nobody_waiting(daemons, capsys):
    for n in range(8):
        daemons.hang(f"hung-{n}")
    daemons.serve("shop")
    began = time.monotonic()
    out = once(daemons, capsys)
    assert time.monotonic() - began < 2 * 8 * vms.ANSWER_S
    assert cells(out, "hung-0")[1] == "no answer" and cells(out, "shop")[1] == "protected"
    assert "9 VMs: 8 no answer, 1 protected" in out and "plover-replica@hung-7" in out


def test_nonsense_is_shown_as_unknown_and_is_no_markup(daemons, capsys):
    daemons.serve(
        "shop",
        **{key: [] for key in ("totals", "counters", "last_syncvm", "held", "role", "leader", "view")},
        in_sync="x",
        sentence="[bold]a\x1b[2J[/bold]",
    )
    out = once(daemons, capsys)
    assert cells(out, "shop")[2:] == ["-"] * 11 and "[bold]a?[2J[/bold]" in out and "\x1b" not in out


def test_without_a_vm_there_is_a_word(daemons, capsys):
    assert f"no VM in {daemons.folder}" in once(daemons, capsys)


def test_a_pipe_gets_one_frame(daemons):
    daemons.serve("shop")
    process = ploverctl(daemons.folder, "top", "--interval", "0.1")
    out, err = process.communicate(timeout=SOON_S)
    assert (process.returncode, err) == (0, "") and "\x1b" not in out and out.count("protected") == 2


# --- a terminal ---


class Terminal:
    def __init__(self, folder, width, *words):
        self.master, terminal = pty.openpty()
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        self.process = ploverctl(folder, "top", "--interval", "0.1", *words, stdin=terminal, stdout=terminal)
        os.close(terminal)
        self.said = ""

    def wait_for(self, words):
        """All of what came until then."""
        end = time.monotonic() + SOON_S
        while words not in self.said:
            assert select.select([self.master], [], [], max(0.0, end - time.monotonic()))[0], self.said
            self.said += os.read(self.master, 65_536).decode("utf-8", "replace")
        said, self.said = self.said, ""
        return said

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)


@pytest.fixture
def terminal():
    opened = []

    def start(*words):
        opened.append(Terminal(*words))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_terminal_is_refreshed_until_ctrl_c_and_restored(daemons, terminal):
    says = daemons.serve("shop")
    shown = terminal(daemons.folder, 160)
    first = shown.wait_for("in sync and can take over")
    assert "\x1b[?1049h" in first and "\x1b[32mprotected" in first  # another screen; green
    says.status["service"] = "degraded"
    assert "\x1b[33mdegraded" in shown.wait_for("degraded")
    daemons.serve("mail")
    shown.wait_for("mail")
    shown.process.send_signal(signal.SIGINT)
    assert "\x1b[?1049l" in shown.wait_for("\x1b[?1049l")  # the screen as it was before
    assert shown.process.wait(SOON_S) == 0 and shown.process.stderr.read() == ""


def test_a_narrow_terminal_gets_two_tables_and_loses_no_word(daemons, terminal):
    daemons.serve("shop", service="down")
    shown = terminal(daemons.folder, 80, "--once")
    lines = ESCAPE.sub("", shown.wait_for("can take over at any moment")).splitlines()
    assert all(len(line) <= 80 for line in lines) and "…" not in "".join(lines)
    assert sum(line.startswith("vm ") for line in lines) == 3 and any(line.startswith("shop  down") for line in lines)


# --- without rich ---


def test_without_rich_one_line_names_the_package(daemons):
    """-S: without the site's packages."""
    daemons.serve("shop")
    process = ploverctl(daemons.folder, "top", python=("-S",))
    out, err = process.communicate(timeout=SOON_S)
    assert (process.returncode, out) == (2, "") and len(err.splitlines()) == 1 and "install the package python3-rich" in err


@pytest.mark.parametrize("words", [["list"], ["status"], ["events"], ["history"]])
def test_the_other_verbs_need_the_standard_library_alone(daemons, words):
    daemons.serve("shop")
    process = ploverctl(daemons.folder, *words, python=("-S",))
    _out, err = process.communicate(timeout=SOON_S)
    assert (process.returncode, err) == (0, "")


# --- figures ---


def test_a_daemon_that_began_anew_has_no_rate():
    def look(at, syncvms):
        return Look(at, {"ok": True, "totals": {"syncvms": syncvms}})

    assert Pair(look(2.0, 30), look(1.0, 10)).per_s(syncvms) == 20.0
    assert Pair(look(2.0, 3), look(1.0, 10)).per_s(syncvms) is None
    assert Pair(look(1.0, 30), look(1.0, 10)).per_s(syncvms) is None
    assert Pair(look(2.0, 30), None).per_s(syncvms) is None
    assert Pair(look(2.0, 30), look(1.0, None)).per_s(syncvms) is None


def test_sizes():
    assert [size(count) for count in (None, 0, 1023, 1536, 5 << 30, 1e18)] == ["-", "0 B", "1023 B", "1.5 KiB", "5.0 GiB", "909494.7 TiB"]
    assert sent_bytes({"counters": {"sent_bytes": {"a": 1, "b": "x", "c": 2}}}) == 3 and sent_bytes({}) is None


@pytest.mark.parametrize("words", [["--interval", "0"], ["--interval", "x"], ["--interval", "nan"], ["--interval", "1e9"]])
def test_an_interval_that_makes_no_sense_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        ctl.main(["top", *words])
    assert "--interval" in capsys.readouterr().err
