# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible modules as Ansible runs them, with a stand-in for systemctl and a daemon with ready answers."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.plover.vmft.plugins.module_utils._ansible import client, member
from ansible_collections.plover.vmft.plugins.modules import (
    plover_info,
    plover_replica,
    plover_switchover,
    plover_vm,
    plover_witness,
)
from fake_daemon import FakeDaemon

UNIT, GUEST = "plover-replica@demo.service", "plover-qemu@demo.service"
SYSTEMCTL = """#!/bin/sh
# A unit is active or enabled while its file exists; every command is written down.
echo "$*" >> "$FAKE/log"
case $1 in
    is-active) [ -e "$FAKE/$2.active" ] && echo active || { echo inactive; exit 3; } ;;
    is-enabled) [ -e "$FAKE/$2.enabled" ] && echo enabled || { echo disabled; exit 1; } ;;
    start) [ ! -e "$FAKE/broken" ] || { echo "Job for $2 failed." >&2; exit 1; }; : > "$FAKE/$2.active" ;;
    stop) rm -f "$FAKE/$2.active" ;;
    enable) : > "$FAKE/$2.enabled" ;;
    disable) rm -f "$FAKE/$2.enabled" ;;
esac
"""
MEMBERS = {
    "primary": {"address": "192.0.2.1", "kind": "replica"},
    "secondary": {"address": "192.0.2.2", "kind": "replica"},
    "witness": {"address": "192.0.2.3", "kind": "witness"},
}


def status(**more):
    return {
        "ok": True,
        "service": "protected",
        "role": "secondary",
        "leader": "primary",
        "sentence": "following primary",
        "in_sync": ["primary", "secondary"],
        "linked": ["primary", "witness"],
        **more,
    }


LEADS = status(role="leader", leader="secondary", sentence="leading; primary is in sync")
FILLING = status(service="degraded", role="joining", sentence="being filled by primary", in_sync=["primary"])


class Daemon(FakeDaemon):
    """Answers each command with the next of its own answers; repeats the last."""

    def __init__(self, run_dir, **answers):
        self.answers = {"settings": [{"ok": True, "pending": []}], "watch": answers.get("status", []), **answers}
        super().__init__(run_dir, [b""])

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
                with peer:
                    command = json.loads(peer.makefile().readline())["cmd"]
                    self.requests.append(command)
                    ready = self.answers[command]
                    peer.sendall(json.dumps(ready.pop(0) if len(ready) > 1 else ready[0]).encode() + b"\n")
            except OSError:
                return


class Host:
    """Folders that stand for this host's; the seat is the secondary's, until :meth:`seat` says otherwise."""

    def __init__(self, root, run_dir):
        self.root, self.run_dir, self.daemon = root, run_dir, None
        self.seat("secondary")

    def seat(self, member):
        self.settings = {
            "name": "demo",
            "member": member,
            "members": MEMBERS,
            "run_dir": str(self.run_dir),
            "cluster_id": "c",
            "preferred_leader": "primary",
            "guest_mac": "m",
            "guest_kernel": "/k",
            "state_dir": str(self.root / "state"),
            "shm_dir": str(self.root / "shm"),
        }
        (self.root / "demo.json").write_text(json.dumps(self.settings))

    def runs(self, **answers):
        kind = MEMBERS[self.settings["member"]]["kind"]
        for what in ("active", "enabled"):
            (self.root / f"plover-{kind}@demo.service.{what}").touch()
        self.daemon = Daemon(self.run_dir, **answers)
        return self.daemon

    def did(self):
        return [line for line in (self.root / "log").read_text().splitlines() if not line.startswith("is-")]


@pytest.fixture
def host(tmp_path, monkeypatch):
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    (tmp_path / "log").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setattr(member, "CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(member, "LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr(client, "RETRY_S", 0.01)
    monkeypatch.setattr(plover_info, "BRIDGE_CONF", str(tmp_path / "bridge.conf"))
    with tempfile.TemporaryDirectory(prefix="plv") as run_dir:
        monkeypatch.setattr(client, "RUN_DIR", run_dir)
        out = Host(tmp_path, Path(run_dir))
        yield out
        if out.daemon:
            out.daemon.close()


def run(module, capsys, **arguments):
    """(exit status, result) of a module run with these arguments."""
    with patch_module_args({"name": "demo", **arguments}), pytest.raises(SystemExit) as stop:
        module.main()
    return stop.value.code, json.loads(capsys.readouterr().out)


def test_started_enables_and_starts_once(host, capsys):
    code, result = run(plover_replica, capsys)
    assert (code, result["changed"]) == (0, True)
    assert result["actions"] == [f"enabled {UNIT}", f"started {UNIT}"]
    assert [result["diff"][side]["active"] for side in ("before", "after")] == [False, True]
    assert host.did() == [f"enable {UNIT}", f"start {UNIT}"]
    code, result = run(plover_replica, capsys)
    assert (code, result["changed"], result["actions"]) == (0, False, [])
    assert result["diff"]["before"] == result["diff"]["after"] and len(host.did()) == 2


def test_the_result_says_what_the_daemon_said_meanwhile(host, capsys):
    host.runs(status=[FILLING, FILLING, status()])
    code, result = run(plover_replica, capsys, wait=True)
    assert (code, result["changed"], result["status"]["service"]) == (0, False, "protected")
    assert [said["text"] for said in result["progress"]] == [
        "demo: degraded; being filled by primary",
        "demo: protected; following primary",
    ]


def test_a_wait_in_vain_fails_with_the_daemons_sentence_and_what_was_done(host, capsys):
    host.runs(status=[FILLING])
    (host.root / f"{UNIT}.enabled").unlink()
    code, result = run(plover_vm, capsys, timeout_s=0)
    assert (code, result["refused"], result["actions"]) == (1, False, [f"enabled {UNIT}"])
    assert "not protected after 0 s (timeout_s). The daemon says: joining, degraded: being filled" in result["msg"]


OFF = {"ok": True, "service": "off", "role": "idle", "leader": None, "in_sync": [], "sentence": "off", "view": 2}


def test_a_leader_presses_the_vms_power_button_and_waits_until_it_is_off(host, capsys):
    host.runs(status=[LEADS], watch=[OFF], shutdown=[{"ok": True, "pressed": True}])
    code, result = run(plover_vm, capsys, state="off")
    assert (code, result["changed"], result["actions"]) == (0, True, ["pressed the power button of demo"])
    assert result["diff"]["after"]["off"] is True and "off" not in result["diff"]["before"]
    host.daemon.answers["status"] = [OFF]
    code, result = run(plover_vm, capsys, state="off")
    assert (code, result["changed"], host.daemon.requests.count("shutdown")) == (0, False, 1)
    assert result["diff"]["before"] == result["diff"]["after"]


def test_check_mode_presses_no_button(host, capsys):
    host.runs(status=[LEADS])
    code, result = run(plover_vm, capsys, state="off", _ansible_check_mode=True)
    assert (code, result["changed"], result["actions"]) == (0, True, ["pressed the power button of demo"])
    assert "shutdown" not in host.daemon.requests


def test_a_vm_that_is_off_is_booted_by_one_of_two(host, capsys, monkeypatch):
    monkeypatch.setattr(member, "LATER_LOOKS", 3)
    host.runs(status=[OFF], watch=[status()], start=[{"ok": True, "started": True}])  # the preferred leader is gone
    code, result = run(plover_vm, capsys, state="running")
    assert (code, result["actions"]) == (0, ["booted demo"])
    host.daemon.answers.update(status=[OFF, OFF, status()])  # the other one has booted it meanwhile
    code, result = run(plover_vm, capsys, state="running")
    assert (code, result["changed"], host.daemon.requests.count("start")) == (0, False, 1)


@pytest.mark.parametrize("state, command", [("off", "shutdown"), ("running", "start")])
def test_a_button_that_the_daemon_refuses_is_an_error_unless_it_is_done_already(host, capsys, monkeypatch, state, command):
    monkeypatch.setattr(member, "LATER_LOOKS", 0)
    before, after = (LEADS, OFF) if state == "off" else (OFF, status())
    host.runs(status=[before], watch=[after], **{command: [{"ok": False, "error": "not now"}]})
    code, result = run(plover_vm, capsys, state=state)
    assert code == 1 and result["msg"] == f"demo: cannot be {'shut down' if state == 'off' else 'booted'}: not now"
    host.daemon.answers["status"] = [before, after]
    code, result = run(plover_vm, capsys, state=state)
    assert (code, result["changed"]) == (0, False)


def test_a_slice_that_is_over_is_taken_up_by_the_next_call(host, capsys):
    host.runs(status=[status()], watch=[FILLING])
    code, first = run(plover_replica, capsys, state="restarted", slice={"for_s": 0, "unfinished": None})
    assert (code, first["actions"]) == (0, [f"restarted {UNIT}"])
    host.daemon.answers["watch"] = [status()]
    code, last = run(plover_replica, capsys, state="restarted", slice={"for_s": 5, "unfinished": first["unfinished"]})
    assert (code, last["changed"], last["actions"], "unfinished" in last) == (0, True, [f"restarted {UNIT}"], False)
    assert len(last["progress"]) == 2 and host.did() == [f"restart {UNIT}"]


def test_a_leader_hands_over_before_it_is_restarted(host, capsys):
    host.runs(status=[LEADS], watch=[status()], switchover=[{"ok": True, "switched": True}])
    code, result = run(plover_replica, capsys, state="restarted", switchover=True)
    assert (code, result["actions"]) == (0, ["let primary take over", f"restarted {UNIT}"])
    assert host.daemon.requests.index("switchover") < host.daemon.requests.index("watch")
    assert host.did() == [f"restart {UNIT}"]


def test_a_leader_is_left_alone_and_the_failure_says_refused(host, capsys):
    host.runs(status=[LEADS])
    for check in (False, True):
        code, result = run(plover_replica, capsys, state="restarted", _ansible_check_mode=check)
        assert (code, result["refused"], host.did()) == (1, True, [])
        assert "Give switchover: true" in result["msg"]


def test_a_switchover_that_the_daemon_refuses_ends_the_plan(host, capsys):
    host.runs(status=[LEADS], switchover=[{"ok": False, "error": "primary is not in sync"}])
    code, result = run(plover_replica, capsys, state="restarted", switchover=True)
    assert (code, host.did()) == (1, []) and "no switchover to primary: primary is not in sync" in result["msg"]


@pytest.mark.parametrize("check", [True, False])
def test_absent_leaves_no_file_but_a_mount_point(host, capsys, check):
    (host.root / "state" / "demo").mkdir(parents=True)
    (host.root / "state" / "demo" / "durable").touch()
    (host.root / "shm").mkdir()
    (host.root / "shm" / "demo.ram").touch()
    (host.root / "state" / "other").mkdir()
    host.runs(status=[status()])
    code, result = run(plover_replica, capsys, state="absent", _ansible_check_mode=check)
    assert (code, result["changed"]) == (0, True)
    assert result["actions"][:3] == [f"stopped {UNIT}", f"disabled {UNIT}", f"ended {GUEST}"]
    assert len(result["actions"]) == 7 and result["diff"]["after"]["files"] == []
    assert (host.root / "demo.json").exists() is check and (host.root / "state" / "demo").exists() is check
    assert (host.root / "state" / "other").exists()
    if not check:
        assert run(plover_replica, capsys, state="absent")[1]["changed"] is False


def test_absent_takes_the_apparmor_profile_out_of_the_kernel_as_well(host, capsys, monkeypatch):
    monkeypatch.setattr(member, "APPARMOR_DIR", str(host.root / "rules"))
    monkeypatch.setattr(member, "APPARMOR_REMOVE", str(host.root / "remove"))
    (host.root / "rules").mkdir()
    for name in ("demo", "other"):
        (host.root / "rules" / f"plover-qemu-{name}").touch()
    host.runs(status=[status()])
    assert run(plover_replica, capsys, state="absent")[0] == 0
    assert [path.name for path in (host.root / "rules").iterdir()] == ["plover-qemu-other"]
    assert (host.root / "remove").read_text() == "plover-qemu-demo"


@pytest.mark.parametrize("module", [plover_replica, plover_witness, plover_vm, plover_switchover, plover_info])
@pytest.mark.parametrize("name", ["../../etc", "Demo", "", "images", "a" * 40])
def test_a_name_that_is_none_never_becomes_a_path(host, capsys, module, name):
    code, result = run(module, capsys, name=name, **({} if module in (plover_info, plover_switchover, plover_vm) else {"state": "absent"}))
    assert code == 1 and "is no VM's name" in result["msg"]


def test_check_mode_says_what_it_would_do_and_does_nothing(host, capsys):
    code, result = run(plover_vm, capsys, _ansible_check_mode=True)
    assert (code, result["changed"], len(result["actions"]), host.did()) == (0, True, 2, [])


def test_check_mode_before_there_are_settings(host, capsys):
    (host.root / "demo.json").unlink()
    code, result = run(plover_witness, capsys, _ansible_check_mode=True)
    assert (code, result["actions"]) == (0, ["enabled plover-witness@demo.service", "started plover-witness@demo.service"])


def test_a_unit_that_does_not_start_fails_with_the_way_to_its_journal(host, capsys):
    (host.root / "broken").touch()
    code, result = run(plover_replica, capsys)
    assert code == 1 and "Job for" in result["msg"] and f"journalctl -u {UNIT}" in result["msg"]


def test_a_witness_is_no_replica_and_has_no_qemu_to_stop(host, capsys):
    host.seat("witness")
    assert "this host is a witness of demo; use plover_witness" in run(plover_replica, capsys)[1]["msg"]
    host.runs(status=[status(role="witness")])
    assert run(plover_vm, capsys, state="unprotected")[0] == 0
    assert host.did() == ["stop plover-witness@demo.service", "disable plover-witness@demo.service"]


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        (plover_vm, {"state": "paused"}, "state"),
        (plover_vm, {"timeout_s": "soon"}, "timeout_s"),
        (plover_replica, {"stat": "started"}, "stat"),
        (plover_witness, {"switchover": True}, "switchover"),
        (plover_switchover, {"to": "nowhere"}, "to: nowhere is no replica of demo; choose one of primary, secondary"),
    ],
)
def test_bad_arguments_are_refused(host, capsys, module, arguments, words):
    host.runs(status=[status()])
    code, result = run(module, capsys, **arguments)
    assert code == 1 and words in result["msg"] and host.did() == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"member": "x", "members": {}}', '{"member": [], "members": 7}'])
def test_settings_that_are_none_name_the_play(host, capsys, text):
    (host.root / "demo.json").write_text(text)
    for module in (plover_replica, plover_info):
        code, result = run(module, capsys)
        assert code == 1 and "demo.json" in result["msg"] and "run the deploy play to write it anew" in result["msg"]


def test_a_vm_without_settings_names_the_role_that_writes_them(host, capsys):
    for module in (plover_vm, plover_info):
        code, result = run(module, capsys, name="other")
        assert code == 1 and "other.json is missing; role vm" in result["msg"]


# --- switchover ---


def test_a_switchover_on_the_leader_happens_once(host, capsys):
    host.runs(status=[LEADS], watch=[LEADS, status()], switchover=[{"ok": True}])
    code, result = run(plover_switchover, capsys, to="primary")
    assert (code, result["changed"], result["actions"]) == (0, True, ["let primary take over"])
    host.daemon.answers["status"] = [status()]
    assert run(plover_switchover, capsys, to="primary")[1]["changed"] is False
    assert host.daemon.requests.count("switchover") == 1


def test_elsewhere_it_only_waits_for_the_outcome(host, capsys):
    host.runs(status=[status()], watch=[status(), FILLING, LEADS])
    code, result = run(plover_switchover, capsys, to="secondary")
    assert (code, result["changed"], result["status"]["leader"]) == (0, False, "secondary")
    assert "switchover" not in host.daemon.requests


# --- info ---


def test_info_tells_status_and_configuration_and_never_changes(host, capsys):
    (host.root / "bridge.conf").write_text("BRIDGE=br0\nMEMBER=eno1\n")
    host.runs(status=[status()], settings=[{"ok": True, "pending": ["failover_budget_ms"]}])
    with patch_module_args({}), pytest.raises(SystemExit):
        plover_info.main()
    result = json.loads(capsys.readouterr().out)
    demo = result["vms"]["demo"]
    assert (result["changed"], demo["status"], demo["kind"], demo["member"]) == (False, status(), "replica", "secondary")
    assert demo["pending"] == ["failover_budget_ms"] and demo["configuration"]["vm"]["witness"] == "witness"
    assert result["host"] == {"plover_bridge_name": "br0", "plover_bridge_member": "eno1"}
    assert run(plover_info, capsys)[1]["status"] == status()


def test_info_tells_of_a_vm_whose_daemon_is_silent_but_a_named_one_must_answer(host, capsys):
    with patch_module_args({"names": ["demo"]}), pytest.raises(SystemExit):
        plover_info.main()
    demo = json.loads(capsys.readouterr().out)["vms"]["demo"]
    assert demo["status"] == {} and "running?" in demo["error"]
    code, result = run(plover_info, capsys)
    assert code == 1 and "running?" in result["msg"]


# --- looking ---


def test_a_connection_that_is_just_made_anew_is_waited_for_but_not_for_ever(host, capsys):
    host.runs(status=[status(linked=["primary"]), status(linked=["primary"]), status()])
    assert run(plover_replica, capsys, state="stopped", _ansible_check_mode=True)[0] == 0
    host.daemon.answers["status"] = [status(linked=["primary"])]
    code, result = run(plover_replica, capsys, state="stopped", _ansible_check_mode=True)
    assert code == 1 and "while witness does not answer" in result["msg"]
