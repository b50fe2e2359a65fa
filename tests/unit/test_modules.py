# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible modules and their client, against a real UNIX socket server and a stand-in for systemctl."""
from __future__ import annotations

import functools
import json
import os
import socket
import sys
import tempfile
import threading
import types
from pathlib import Path

import plover_client
import pytest
from ansible.module_utils.testing import patch_module_args

# The modules name their client by the installed collection's name; here it is the checkout's file.
CLIENT = "ansible_collections.plover.vmft.plugins.module_utils.plover_client"
for _depth in range(1, CLIENT.count(".") + 1):
    sys.modules.setdefault(".".join(CLIENT.split(".")[:_depth]), types.ModuleType("stand-in"))
sys.modules[CLIENT] = plover_client

import plover_info  # noqa: E402
import plover_vm  # noqa: E402

PROTECTED = {"ok": True, "service": "protected", "role": "leader", "sentence": "leading; secondary is in sync"}
DEGRADED = {"ok": True, "service": "degraded", "role": "leader", "sentence": "filling secondary: 40 %"}


class FakeDaemon:
    """Answers each connection with the next of ``answers`` (bytes, or a dictionary as a JSON line); repeats the last."""

    def __init__(self, run_dir, answers):
        self.run_dir, self.requests = run_dir, []
        self._answers = [a if isinstance(a, bytes) else json.dumps(a).encode() + b"\n" for a in answers]
        folder = Path(run_dir, "demo")
        folder.mkdir()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / "ctl.sock"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
                with peer:
                    self.requests.append(json.loads(peer.makefile().readline()))
                    peer.sendall(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
            except OSError:
                return

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def daemon():
    """A factory; the folder's name is short, as a UNIX socket's path has at most 107 characters."""
    made = []
    with tempfile.TemporaryDirectory(prefix="plv") as run_dir:
        def make(*answers):
            made.append(FakeDaemon(run_dir, answers))
            return made[-1]
        yield make
        for one in made:
            one.close()


def ask(fake, **options):
    return plover_client.ask("demo", "status", run_dir=fake.run_dir, **options)


def test_ask_sends_one_json_line_and_returns_the_answer(daemon):
    fake = daemon(PROTECTED)
    assert ask(fake) == PROTECTED
    assert fake.requests == [{"cmd": "status"}]


def test_a_long_answer_arrives_whole(daemon):
    answer = {"ok": True, "sentence": "x" * 300_000}
    assert ask(daemon(answer)) == answer


@pytest.mark.parametrize("answer, words", [
    (b"not json\n", "running?"),
    (b"\xff\xfe\n", "running?"),
    (b"[1, 2]\n", "no JSON object"),
    (b'{"ok": true', "in mid-answer"),
    (b"", "in mid-answer"),
    (b"x" * (plover_client.REPLY_BYTES_MAX + 70_000), "over 1048576 bytes"),
], ids=["words", "no-utf-8", "list", "cut", "nothing", "endless"])
def test_a_bad_answer_is_an_error_that_names_the_socket(daemon, answer, words):
    with pytest.raises(plover_client.ClientError, match="ctl.sock") as error:
        ask(daemon(answer))
    assert words in str(error.value)


def test_no_daemon_names_the_units(tmp_path):
    with pytest.raises(plover_client.ClientError, match="plover-replica@demo or plover-witness@demo running"):
        plover_client.ask("demo", "status", run_dir=str(tmp_path))


def test_a_hung_daemon_is_not_waited_for_for_ever(tmp_path):
    with tempfile.TemporaryDirectory(prefix="plv") as run_dir, socket.socket(socket.AF_UNIX) as listener:
        Path(run_dir, "demo").mkdir()
        listener.bind(f"{run_dir}/demo/ctl.sock")
        listener.listen()
        with pytest.raises(plover_client.ClientError, match="timed out"):
            plover_client.ask("demo", "status", run_dir=run_dir, timeout_s=0.2)


def test_wait_goes_on_until_the_service_is_as_wanted(daemon):
    fake = daemon(DEGRADED, DEGRADED, PROTECTED)
    assert plover_client.wait_for_service("demo", "protected", 10, run_dir=fake.run_dir) == PROTECTED
    assert len(fake.requests) == 3


def test_wait_gives_up_with_the_daemons_own_sentence(daemon):
    fake = daemon(DEGRADED)
    with pytest.raises(plover_client.ClientError, match=r"timeout_s.*degraded: filling secondary: 40 %"):
        plover_client.wait_for_service("demo", "protected", 0, run_dir=fake.run_dir)


# --- the modules ---

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


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A folder that stands for the host's systemd; this host's seat is that of a replica."""
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setattr(plover_vm, "seat", lambda module, name: "replica")
    return tmp_path


def did(host):
    return [line for line in (host / "log").read_text().splitlines() if not line.startswith("is-")]


def run(module, capsys, **arguments):
    """(exit status, result) of a module run with these arguments."""
    with patch_module_args(arguments), pytest.raises(SystemExit) as stop:
        module.main()
    return stop.value.code, json.loads(capsys.readouterr().out)


UNIT = "plover-replica@demo.service"


def test_protect_enables_and_starts_once(host, capsys):
    code, result = run(plover_vm, capsys, name="demo")
    assert (code, result["changed"]) == (0, True)
    assert result["actions"] == [f"enabled {UNIT}", f"started {UNIT}"]
    assert result["diff"] == {"before": {"active": False, "enabled": False}, "after": {"active": True, "enabled": True}}
    assert did(host) == [f"enable {UNIT}", f"start {UNIT}"]
    assert run(plover_vm, capsys, name="demo") == (0, {**result, "changed": False, "actions": [], "diff": {
        "before": {"active": True, "enabled": True}, "after": {"active": True, "enabled": True}}})
    assert len(did(host)) == 2


def test_unprotect_stops_the_daemon_before_its_qemu(host, capsys):
    run(plover_vm, capsys, name="demo")
    _, result = run(plover_vm, capsys, name="demo", state="unprotected")
    assert result["changed"]
    assert did(host)[2:] == [f"stop {UNIT}", f"disable {UNIT}", "stop plover-qemu@demo.service"]
    assert not run(plover_vm, capsys, name="demo", state="unprotected")[1]["changed"]


def test_a_witness_has_no_qemu_to_stop(host, capsys, monkeypatch):
    monkeypatch.setattr(plover_vm, "seat", lambda module, name: "witness")
    run(plover_vm, capsys, name="demo")
    run(plover_vm, capsys, name="demo", state="unprotected")
    assert not [line for line in did(host) if "qemu" in line]


def test_check_mode_says_what_it_would_do_and_does_nothing(host, capsys):
    code, result = run(plover_vm, capsys, name="demo", wait=True, _ansible_check_mode=True)
    assert (code, result["changed"], len(result["actions"])) == (0, True, 2)
    assert did(host) == []


def test_a_unit_that_does_not_start_fails_with_the_way_to_its_journal(host, capsys):
    (host / "broken").touch()
    code, result = run(plover_vm, capsys, name="demo")
    assert code == 1
    assert "Job for" in result["msg"] and f"journalctl -u {UNIT}" in result["msg"]


def test_wait_returns_the_status(host, capsys, daemon, monkeypatch):
    fake = daemon(DEGRADED, PROTECTED)
    monkeypatch.setattr(plover_vm, "wait_for_service",
                        functools.partial(plover_client.wait_for_service, run_dir=fake.run_dir))
    code, result = run(plover_vm, capsys, name="demo", wait=True)
    assert (code, result["status"]) == (0, PROTECTED)


def test_wait_that_ends_in_vain_fails_but_tells_what_was_done(host, capsys, daemon, monkeypatch):
    fake = daemon(DEGRADED)
    monkeypatch.setattr(plover_vm, "wait_for_service",
                        functools.partial(plover_client.wait_for_service, run_dir=fake.run_dir))
    code, result = run(plover_vm, capsys, name="demo", wait=True, timeout_s=0)
    assert code == 1
    assert "filling secondary" in result["msg"] and len(result["actions"]) == 2


@pytest.mark.parametrize("arguments, words", [
    ({}, "name"),
    ({"name": "demo", "state": "running"}, "state"),
    ({"name": "demo", "timeout_s": "soon"}, "timeout_s"),
    ({"name": "demo", "stat": "protected"}, "stat"),
], ids=["no-name", "bad-state", "no-number", "unknown"])
def test_bad_arguments_are_refused_before_systemd_is_asked(host, capsys, arguments, words):
    code, result = run(plover_vm, capsys, **arguments)
    assert code == 1 and words in result["msg"]
    assert not (host / "log").exists()


def test_a_vm_without_settings_names_the_role_that_writes_them(capsys):
    code, result = run(plover_vm, capsys, name="no-such-vm-here")
    assert code == 1
    assert "/etc/plover/no-such-vm-here.json" in result["msg"] and "role vm" in result["msg"]


def test_info_returns_the_status_and_never_changes(capsys, daemon, monkeypatch):
    fake = daemon(DEGRADED)
    monkeypatch.setattr(plover_info, "ask", functools.partial(plover_client.ask, run_dir=fake.run_dir))
    code, result = run(plover_info, capsys, name="demo")
    assert (code, result["changed"], result["status"]) == (0, False, DEGRADED)


def test_info_without_a_daemon_fails_with_a_remedy(capsys):
    code, result = run(plover_info, capsys, name="no-such-vm-here")
    assert code == 1 and "running?" in result["msg"]
