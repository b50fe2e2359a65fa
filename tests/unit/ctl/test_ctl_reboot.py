# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl reboot``: the button, the wait, the start; and what is said when one of them fails."""

from __future__ import annotations

import pytest
from plover.ctl import reboot as of

RUNS = {"ok": True, "service": "protected", "sentence": "leading; beta is in sync"}
OFF = {"ok": True, "service": "off", "sentence": "off"}
NO = {"ok": False, "error": "this host does not lead; ask beta"}


class Daemon:
    def __init__(self, **answers):
        self.asked, self.answers = [], answers

    def __call__(self, command):
        self.asked.append(command)
        ready = self.answers[command]
        return ready.pop(0) if len(ready) > 1 else ready[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(of, "LOOK_S", 0.001)


def test_the_vm_is_started_once_its_guest_has_shut_down(capsys):
    daemon = Daemon(shutdown=[{"ok": True}], status=[RUNS, RUNS, OFF], start=[{"ok": True}])
    assert of.reboot(daemon, 5.0) == 0 and daemon.asked == ["shutdown", "status", "status", "status", "start"]
    assert "the VM boots" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answers, asked, said",
    [
        ({"shutdown": [NO]}, ["shutdown"], "this host does not lead; ask beta"),
        ({"shutdown": [{"ok": True}], "status": [RUNS]}, ["shutdown", "status"], "'ploverctl reset' presses the reset button"),
        (
            {"shutdown": [{"ok": True}], "status": [OFF], "start": [{"ok": False, "error": "no quorum"}]},
            ["shutdown", "status", "start"],
            "the VM is off, and does not boot: no quorum; try 'ploverctl start'",
        ),
    ],
)
def test_what_fails_is_said_with_the_way_on(answers, asked, said, capsys):
    daemon = Daemon(**answers)
    assert of.reboot(daemon, 0.0) == 1 and daemon.asked[: len(asked)] == asked and "start" not in daemon.asked[len(asked) :]
    assert said in capsys.readouterr().err
