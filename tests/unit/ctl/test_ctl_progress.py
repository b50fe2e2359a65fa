# SPDX-License-Identifier: GPL-3.0-or-later
"""`ploverctl audit` on a terminal: a line on stderr says how far it is; the output is the same as without."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import threading

import pytest
from plover.ctl import progress
from several_vms import ploverctl

SOON_S = 20.0
ANSWER = {"pages": 65536, "number": 7, "mismatching": 0, "untracked": 0}
SENTENCE = "memory 25 % (512 of 2048 MiB), 256 MiB/s, 6 s left"


@pytest.fixture
def shop(daemons):
    """A daemon that answers the audit once its status has been looked at a few times."""
    says = daemons.serve("shop", audit={"sentence": SENTENCE})
    looks = []

    async def operator(request):
        if request["cmd"] == "status":
            looks.append(request)
            return dict(says.status)
        for _wait in range(100):
            if len(looks) >= says.looks:
                break
            await asyncio.sleep(0.05)
        return ANSWER

    says.operator, says.looks = operator, 2
    return says


def run(folder, *words):
    """(stdout, what the terminal got on stderr, exit status)"""
    master, terminal = pty.openpty()
    process = ploverctl(folder, "audit", *words, stderr=terminal)
    os.close(terminal)
    said = []

    def read():
        try:
            while data := os.read(master, 65_536):
                said.append(data)
        except OSError:
            return  # the other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    out, _none = process.communicate(timeout=SOON_S)
    reader.join(SOON_S)
    os.close(master)
    return out, b"".join(said).decode(), process.returncode


def test_a_terminal_is_told_how_far_it_is_and_is_left_clean(daemons, shop):
    out, said, code = run(daemons.folder)
    assert code == 0 and out.startswith("65536 pages compared")
    assert f": {SENTENCE}" in said and "audit, " in said
    assert said.endswith(progress.CLEAR) and "\n" not in said


def test_an_older_daemon_says_nothing_of_it_and_time_is_shown(daemons, shop):
    shop.status.pop("audit")
    _out, said, code = run(daemons.folder)
    assert code == 0 and ": waiting" in said


@pytest.mark.parametrize("nonsense", [7, "x", {"sentence": "a\x1b[2Jb\n"}])
def test_nonsense_reaches_no_terminal(daemons, shop, nonsense):
    shop.status["audit"] = nonsense
    _out, said, code = run(daemons.folder)
    assert code == 0 and "\x1b[2J" not in said and "\n" not in said


def test_json_is_the_answer_alone(daemons, shop):
    shop.looks = 0
    out, said, code = run(daemons.folder, "-o", "json")
    assert (code, said) == (0, "") and json.loads(out) == {"ok": True, **ANSWER}


def test_without_a_terminal_nothing_is_shown(daemons, shop):
    shop.looks = 0
    process = ploverctl(daemons.folder, "audit")
    out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 0 and err == "" and out.startswith("65536 pages compared")
