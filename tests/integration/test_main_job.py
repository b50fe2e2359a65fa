# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on two real QEMUs with a real Redis."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from harness import connect, limit, share

STEPS = ["Drain", "StopVm", "Bitmap", "SaveDevice", "Hash", "StagePages", "Divergent", "Pack", "StageBlocks", "StageEnd", "Emit", "ContVm"]


def strike_leader(group, step: str, cause, tries: int = 4) -> tuple[int, str]:
    """Kill -9 the leader's QEMU in that step of a syncvm, which ``cause`` brings about; returns (the view it led, its name).

    On a busy machine a leader may be deposed before it comes to the step: then the next leader is struck.
    """
    for n in range(tries):
        leader = group.settled()
        view = group.status(leader)["view"]
        fault = group.run_folder(leader) / "fault"
        fault.write_text(step)
        cause(f"in-{step}-{n}")  # the answer may come before the syncvm that is to be struck
        if was_struck(group, leader, fault):
            return view, leader
    raise AssertionError(f"{step}: no leader lasted up to it in {tries} tries: {group.story()}")


def survivor_led(group, view: int, struck: str) -> bool:
    """Did the other member lead a view after that one? The struck one may lead again later, once it has been filled."""
    led = re.findall(r"view (\d+), led by (\w+)", group.log("witness"))
    return any(int(number) > view and leader == other(struck) for number, leader in led)


def was_struck(group, leader: str, fault: Path) -> bool:
    """The step came, and took ``fault`` with it. False: its leader was deposed first, and ``fault`` is withdrawn."""
    end = time.monotonic() + limit(30.0)
    while fault.exists():
        if time.monotonic() > end:
            raise AssertionError(f"{fault.read_text()} struck nobody: {group.story()}")
        if group.status(leader).get("role", "leader") != "leader":
            try:
                fault.unlink()
                return False
            except FileNotFoundError:  # struck just now
                return True
        time.sleep(0.02)
    return True


def write(client, acked: dict[str, str], name: str, value: str) -> None:
    assert client.ask("SET", name, value) == b"+OK"
    acked[name] = value


def lost(client, acked: dict[str, str]) -> list[str]:
    return [name for name, value in acked.items() if client.ask("GET", name) != value.encode()]


def other(member: str) -> str:
    return {"primary": "secondary", "secondary": "primary"}[member]


def test_checkpoints_as_remus_makes_them(new_group):
    """The mode that the benchmark compares with protects too: what was acknowledged is there after a failover."""
    group = new_group(syncvm_mode="checkpoint", syncvm_interval_ms_max=25)
    group.start()
    group.wait("primary", service="protected")
    client, acked = connect(), {}
    for n in range(40):
        write(client, acked, f"k{n}", str(n))
    figures = group.ctl("primary", "syncvms")["syncvms"]
    assert len(figures) > 10 and all(f["divergent_pages"] == f["dirty_pages"] for f in figures), figures[-3:]
    assert group.audit()["mismatching"] == 0
    group.power_off("primary")
    write(client, acked, "after", "x")
    assert lost(client, acked) == []


@pytest.mark.parametrize("release", ["agreed", "syncvm"])
def test_writes_survive_the_leader_and_memory_is_equal(new_group, release):
    group = new_group(output_release=release)
    group.start()
    group.wait("primary", service="protected")
    client, acked = connect(), {}
    for n in range(60):
        write(client, acked, f"a{n}", str(n) * 20)
    status = group.status("primary")
    assert status["last_syncvm"]["dirty_pages"] > 0
    assert status["output"]["agreed_frames"] > 0 if release == "agreed" else status["syncvms"] >= 60
    assert status["fill_pages_mismatching"] == 0
    report = group.audit()
    assert (report["pages"], report["mismatching"], report["untracked"]) == (65536, 0, 0)
    group.power_off("primary")
    write(client, acked, "after", "x")
    assert lost(client, acked) == []
    assert group.status("secondary")["service"] == "degraded"
    group.start("primary")
    group.wait("secondary", service="protected")
    for n in range(20):
        write(client, acked, f"b{n}", str(n))
    report = group.audit()
    assert (report["mismatching"], report["untracked"]) == (0, 0)
    assert group.status("secondary")["fill_pages_mismatching"] == 0
    assert lost(client, acked) == []


def test_switchover_and_witness_loss(group):
    client, acked = connect(), {}
    write(client, acked, "a", "1")
    assert group.ctl("secondary", "switchover")["error"].endswith("ask primary")
    assert group.ctl("primary", "switchover")["ok"]
    group.wait("secondary", service="protected", role="leader")
    write(client, acked, "b", "2")
    group.power_off("witness")
    for n in range(10):
        write(client, acked, f"w{n}", "3")
    assert lost(client, acked) == []


def test_a_secondary_filled_while_the_guest_boots_takes_over(new_group):
    """Its own QEMU has then seen another half of the boot than the states it was given (virtio's "disabled")."""
    group = new_group(syncvm_interval_ms_max=100)
    group.start()
    group.wait("primary", service="protected")
    assert group.status("primary")["fill_pages_mismatching"] == 0
    client, acked = connect(), {}
    write(client, acked, "a", "1")
    group.power_off("primary")
    write(client, acked, "b", "2")
    assert lost(client, acked) == []


def test_secondary_loss_and_a_restart_of_the_lone_leaders_daemon(group):
    """The daemon of a leader without a secondary restarts: the guest runs on and is served again."""
    client, acked = connect(), {}
    write(client, acked, "a", "1")
    group.power_off("secondary")
    write(client, acked, "b", "2")
    pid = group.qemu_pid("primary")
    daemon = group.daemons.pop("primary")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    group.start("primary")
    group.wait("primary", role="leader", service="degraded")
    assert group.qemu_pid("primary") == pid
    write(client, acked, "c", "3")
    group.start("secondary")
    group.wait("primary", service="protected")
    write(client, acked, "d", "4")
    assert lost(client, acked) == []
    assert group.audit()["mismatching"] == 0


def test_a_daemon_that_is_stopped_leaves_its_vm_to_the_next_one(group):
    """As `systemctl restart` does it, on a lone leader."""
    group.power_off("secondary")
    group.wait("primary", service="degraded")
    client, pid = connect(), group.qemu_pid("primary")
    assert client.ask("SET", "k", "v") == b"+OK"
    daemon = group.daemons.pop("primary")
    daemon.terminate()
    assert daemon.wait(limit(20)) == 0, group.log("primary")[-2000:]
    group.start("primary")
    group.wait("primary", service="degraded", role="leader")
    assert group.qemu_pid("primary") == pid
    assert connect().ask("GET", "k") == b"v"


def test_leaders_daemon_dies_alone_and_the_old_guest_is_fenced(group):
    client, acked = connect(), {}
    write(client, acked, "a", "1")
    daemon = group.daemons.pop("primary")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    write(client, acked, "b", "2")
    assert group.status("secondary")["leader"] == "secondary"
    group.start("primary")
    group.wait("secondary", service="protected")
    assert group.status("primary")["role"] == "secondary"
    assert lost(client, acked) == []


def test_a_frozen_leader_that_thaws_says_nothing(group):
    client, acked = connect(), {}
    write(client, acked, "a", "1")
    daemon = group.daemons["primary"]
    os.kill(daemon.pid, signal.SIGSTOP)
    write(client, acked, "b", "2")
    os.kill(daemon.pid, signal.SIGCONT)
    group.wait("secondary", service="protected", leader="secondary")
    write(client, acked, "c", "3")
    assert lost(client, acked) == []


def test_kill_9_of_the_leaders_qemu_in_each_step_of_a_syncvm(new_group):
    """The secondary goes on from exactly the old state or exactly the new one, and nothing acknowledged is lost."""
    group = new_group()
    group.start(replica="watched_replica")
    group.wait("primary", service="protected")
    client, acked = connect(), {}
    steps = share(STEPS)
    for n, step in enumerate(steps):
        write(client, acked, f"before{n}", step)
        view, leader = strike_leader(group, step, lambda name, step=step: write(client, acked, name, step))
        write(client, acked, f"after{n}", step)
        group.settled(after_view=view)
        assert survivor_led(group, view, leader), group.log("witness")[-2000:]
        assert lost(client, acked) == [], step
    stopped: dict[str, dict] = {}
    checked = {"before-load": 0, "before-promote": 0}
    notes = {m: [json.loads(x) for x in (group.run_folder(m) / "digests").read_text().splitlines()] for m in ("primary", "secondary")}
    for member in notes:
        for note in notes[member]:
            if note["event"] == "stopped":
                stopped[member, note["number"]] = note["digest"]
            elif note["event"] == "before-promote":
                assert note["digest"] == stopped[member, note["number"]], "promoted between two states"
                checked["before-promote"] += 1
    for member in notes:  # the new state is the leader's at its stop, all of it
        digests = {d["digest"] for d in notes[other(member)] if d["event"] == "stopped"}
        for note in notes[member]:
            if note["event"] == "before-load":
                assert note["digest"] in digests, "applied something that the leader never was"
                checked["before-load"] += 1
    assert checked["before-promote"] >= (2 if len(steps) == len(STEPS) else 1) and checked["before-load"] >= len(steps), checked


def test_degraded_group_reports_why_and_two_losses_stop_it(group):
    client = connect()
    group.power_off("secondary")
    status = group.wait("primary", service="degraded")
    assert "secondary" in status["sentence"]
    group.power_off("witness")
    group.wait("primary", 10, service="down")
    client.sock.settimeout(limit(1.5))
    with pytest.raises(TimeoutError):
        client.ask("SET", "x", "must not be acknowledged")
    group.start("witness")
    group.wait("primary", 10, service="degraded")
    fresh = connect()
    assert fresh.ask("PING") == b"+PONG"
    time.sleep(0.1)
