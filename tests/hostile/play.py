# SPDX-License-Identifier: GPL-3.0-or-later
"""One case: the QEMU fails; clients are served on, nothing is lost, no daemon ends, and the VM is protected again."""

from __future__ import annotations

import os
import signal
import time

from cases import FILL, LEADER, SWITCH, TRAFFIC, Case
from hostile_group import REPLICAS, kill

FIRES_S, SERVED_S, FAILS_S = 20.0, 30.0, 2.0
FATAL = ("freeze", "die", "did die", "half then die")  # for the only copy


def provoke(stage, case: Case, leader: str, secondary: str) -> None:
    """Until the fault has happened."""
    member = leader if case.role == LEADER else secondary
    stage.group.orders[member].order(case.rule)
    if case.trigger == FILL:
        kill(stage.group.qemu_pid(secondary))
    if case.trigger == SWITCH:
        stage.group.ctl(leader, "switchover")
    end = time.monotonic() + FIRES_S
    while not stage.group.orders[member].fired:
        assert time.monotonic() < end, f"nobody came by {case.rule.point}: {stage.group.story()}"
        if case.trigger == TRAFFIC:
            stage.client.ask(SERVED_S)
        else:
            time.sleep(0.01)


def lost_loudly(group, filled: str) -> bool:
    """The QEMU of the only copy died: nobody makes a VM up, and everybody says so. False: at the last moment of its fill, ``filled`` had
    a copy and leads; whether that is the VM, the rest of the case shows. ``filled``: empty if none was."""
    end = time.monotonic() + SERVED_S
    while any(group.status(member).get("service") != "down" for member in REPLICAS):
        if filled and group.status(filled).get("role") == "leader":
            return False
        assert time.monotonic() < end, f"the VM is lost, and not all say so: {group.story()}"
        time.sleep(0.1)
    group.check_daemons()
    return True


def play(stage, case: Case) -> None:
    group, client = stage.group, stage.client
    leader, secondary = group.protected()
    torn = len(group.torn())
    fatal = case.only_copy and case.rule.how in FATAL
    waits = fatal or (case.trigger == SWITCH and not case.rule.once)  # a VM that is not promoted answers nobody
    try:
        provoke(stage, case, leader, secondary)
        if waits:
            time.sleep(FAILS_S)
        for _time in range(0 if waits else 3):
            client.ask(SERVED_S)
    finally:
        for orders in group.orders.values():
            orders.order(None)
    if fatal and case.rule.how != "freeze":
        if lost_loudly(group, secondary if (case.role, case.trigger) == (LEADER, FILL) else ""):
            return stage.strike()
    elif fatal:
        os.kill(group.qemu_pid(leader if case.role == LEADER else secondary), signal.SIGCONT)
    client.ask(SERVED_S)
    report = group.audit()
    assert (report["mismatching"], report["untracked"]) == (0, 0), (report, group.story())
    assert group.torn()[torn:] == []
    group.check_daemons()
    return None
