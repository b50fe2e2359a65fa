# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl drill``: what it reports of a daemon's replies, one after another. With real daemons: tests/integration/test_drill.py."""

from __future__ import annotations

import json

import pytest
from plover.ctl import commands as ctl
from plover.ctl import drill
from plover.ctl.drill import WHY_NOT


def status(role="leader", service="protected", leader="alpha", found=None, **more):
    base = {"ok": True, "name": "demo", "member": "alpha", "role": role, "service": service, "leader": leader, "in_sync": ["alpha", "beta"]}
    return {**base, "sentence": f"{role}: {service}", **({"drill": found} if found else {}), **more}


def over(there_ms=41.2, back_ms=38.4):
    return {"over": True, "there_ms": there_ms, "back_ms": back_ms}


UNDER_WAY = {"over": False, "there_ms": None, "back_ms": None}
AWAY = status("secondary", "degraded", "beta", UNDER_WAY)
BACK = [AWAY, status("secondary", "protected", "beta", UNDER_WAY), status(service="degraded", found=over()), status(found=over())]


class Daemon:
    """Answers each look with the next status; the last one for ever."""

    def __init__(self, before, *after, begun=None):
        self.before, self.after, self.begun, self.asked = before, list(after), begun or {"ok": True, "switched": True}, []

    def __call__(self, command):
        self.asked.append(command)
        if command == "drill":
            return self.begun
        if "drill" not in self.asked:
            return self.before
        return self.after.pop(0) if len(self.after) > 1 else self.after[0]


def run(capsys, daemon, as_json=True, timeout_s=5.0):
    code = drill.drill(daemon, timeout_s, as_json)
    out = capsys.readouterr()
    return code, json.loads(out.out) if as_json else out.out, out.err


def test_there_and_back(capsys):
    code, report, _said = run(capsys, Daemon(status(), *BACK))
    assert code == 0 and report["ok"] and "error" not in report
    assert (report["vm"], report["from"], report["to"], report["leader"]) == ("demo", "alpha", "beta", "alpha")
    assert (report["there"], report["back"]) == ({"outage_ms": 41.2}, {"outage_ms": 38.4})
    assert [each["service"] for each in report["services"]] == ["degraded", "protected", "degraded", "protected"]
    assert (report["before"], report["after"]) == ("protected", "protected")


def test_people_get_five_lines(capsys):
    code, out, said = run(capsys, Daemon(status(), *BACK), as_json=False)
    assert code == 0 and said == "" and len(out.splitlines()) == 5
    assert out.splitlines()[1:3] == ["  there, alpha to beta: clients waited 41 ms", "  back, beta to alpha: clients waited 38 ms"]
    assert out.startswith("drill of demo, ") and out.splitlines()[3] == "  service: protected before; protected after, alpha leads"


@pytest.mark.parametrize(
    ("before", "begun", "why"),
    [
        ({"ok": False, "error": "the daemon does not answer"}, None, "does not answer"),
        (status("secondary", leader="beta"), None, "run the drill on beta"),
        (status("idle", "down", leader=None), None, "the leader once there is one"),
        (status(service="degraded"), None, "the VM is degraded, not protected: leader: degraded"),
        (status(), {"ok": False, "error": "not protected: lost"}, "not protected: lost"),
        (status(), {"ok": False, "error": "unknown command 'drill'"}, "is of an earlier version"),
        (status(), {"ok": False}, "makes no sense"),
    ],
)
def test_a_drill_that_does_not_begin_is_refused(capsys, before, begun, why):
    code, report, _said = run(capsys, Daemon(before, status(), begun=begun))
    assert code == 1 and report == {"ok": False, "error": report["error"]} and why in report["error"]
    code, out, said = run(capsys, Daemon(before, status(), begun=begun), as_json=False)
    assert (code, out) == (1, "") and why in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (AWAY, "beta has not handed the VM back in time"),
        (status(service="degraded", found=over()), "this host leads again, but the VM is degraded"),
        ({"ok": False, "error": "the daemon does not answer"}, "beta has not handed the VM back in time (the daemon does not answer)"),
        (status(found=over(there_ms=None)), "took over from it by itself"),
        ({"ok": True}, "beta has not handed the VM back"),
        ({"ok": True, "drill": ["x"], "role": 7, "service": {}, "sentence": "\x1b[2J"}, "beta has not handed the VM back"),
    ],
)
def test_half_a_drill_says_what_is_missing(capsys, last, why):
    code, report, _said = run(capsys, Daemon(status(), last), timeout_s=0.3)
    assert code == 1 and report["ok"] is False and why in report["error"] and report["error"].isprintable()
    code, out, _said = run(capsys, Daemon(status(), last), as_json=False, timeout_s=0.3)
    assert code == 1 and why in out.splitlines()[0] and len(out.splitlines()) == 5


def test_without_yes_nothing_begins(host, capsys):
    assert ctl.main(["drill"]) == 1
    out = capsys.readouterr()
    assert out.out == "" and out.err == WHY_NOT + "\n"
