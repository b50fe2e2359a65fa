# SPDX-License-Identifier: GPL-3.0-or-later
"""ploverctl and the daemon's control socket: a real witness answers, well asked or badly."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from pathlib import Path

import pytest
from ctl_host import Says, daemon, run_ctl
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from plover.ctl import client
from plover.ctl import commands as ctl
from plover.ctl.arguments import parser
from plover.daemon import control_server as ctl_server
from plover.daemon.control_server import LINE_BYTES_MAX
from plover.rdma import verbs
from plover.witness.daemon import Witness

from tests.examples import examples

BOTH, ALONE = 0b011, 0b001  # who is in sync: bits of the members in the order of their names


def talk(folder, *lines, end=True):
    """What the daemon replies to these bytes; it must still answer others afterwards."""

    async def run():
        async with daemon(folder) as (_, unexpected):
            path = str(folder / "demo" / "ctl.sock")
            reader, writer = await asyncio.open_unix_connection(path)
            out = b""
            try:
                for line in lines:
                    writer.write(line)
                    await writer.drain()
                if end:
                    writer.write_eof()
                out = await asyncio.wait_for(reader.read(), 5.0)
            except ConnectionError:
                pass
            writer.close()
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"cmd": "status"}\n')
            assert json.loads(await asyncio.wait_for(reader.readline(), 5.0))["ok"]
            writer.close()
            served = asyncio.all_tasks() - {asyncio.current_task()}
            assert not served or not (await asyncio.wait(served, timeout=5.0))[1]
            await asyncio.sleep(0)  # what a task left behind is told a turn later
            assert unexpected == []
            return [json.loads(reply) for reply in out.splitlines()]

    return asyncio.run(run())


# --- ploverctl's exit status and words ---


@pytest.mark.parametrize("in_sync, code, service", [(BOTH, 0, "protected"), (ALONE, 1, "degraded"), (None, 2, "down")])
def test_status_tells_protected_degraded_and_down_apart(host, capsys, in_sync, code, service):
    assert run_ctl(host, "status", in_sync=in_sync) == code
    out = capsys.readouterr().out
    assert out.startswith(f"demo: {service}\n  witness is witness: voting; ")
    assert run_ctl(host, "status", "-o", "json", in_sync=in_sync) == code
    reply = json.loads(capsys.readouterr().out)
    assert (reply["ok"], reply["service"], reply["leader"]) == (True, service, "primary" if in_sync else None)


@pytest.mark.parametrize(
    "writes_to, written_by, words",
    [
        (["secondary", "witness"], [], "RDMA: rxe0 port 1, writes to secondary, witness"),
        ([], ["primary"], "RDMA: rxe0 port 1, written by primary"),
        ([], [], "RDMA: rxe0 port 1, no ring yet: messages by TCP"),
    ],
)
def test_status_tells_who_writes_to_whom(host, capsys, monkeypatch, writes_to, written_by, words):
    rdma = {"device": "rxe0", "port": 1, "gid_index": 1, "guest_memory": "pinned", "writes_to": writes_to, "written_by": written_by}
    monkeypatch.setattr(Witness, "transport", lambda self: {"transport": "rdma", "rdma": rdma})
    run_ctl(host, "status", in_sync=BOTH)
    assert f"  {words}\n" in capsys.readouterr().out


def test_rdma_check_without_a_device_fails_with_the_remedy(host, capsys, monkeypatch):
    """This machine has none; the guests of tests/rdma have one."""
    monkeypatch.setattr(verbs, "ports", lambda: [])
    assert ctl.main(["rdma", "check", "--address", "10.0.0.1"]) == 1
    assert "PROBLEM: transport: rdma, but this host has no RDMA device; role 'ofed' makes one" in capsys.readouterr().out
    assert ctl.main(["rdma", "check", "-o", "json"]) == 1
    reply = json.loads(capsys.readouterr().out)
    assert not reply["ok"] and reply["chosen"] is None and reply["address"] == reply["address"].strip()


@pytest.mark.parametrize(
    "counts, told",
    [
        ({"output_bytes": 0, "output_frames": 0, "input_bytes": 0}, ""),
        (
            {"output_bytes": 1500, "output_frames": 0, "input_bytes": 7},
            "  dropped, as on a full wire: 1500 bytes of output, 7 bytes of input\n",
        ),
        (
            {"output_bytes": 0, "unsent_bytes": 60, "what_a_later_version_counts": 1},
            "  dropped, as on a full wire: 60 bytes of output when it ceased to lead\n",
        ),
    ],
)
def test_status_tells_what_was_dropped(host, capsys, monkeypatch, counts, told):
    monkeypatch.setattr(Witness, "transport", lambda self: {"transport": "tcp", "dropped": counts})
    run_ctl(host, "status", in_sync=BOTH)
    out = capsys.readouterr().out
    assert told in out and bool(told) == ("dropped" in out)


@pytest.mark.parametrize("release, told", [("agreed", "12 frames left as both VMs had sent them, 3 waited for a syncvm"), ("syncvm", "")])
def test_status_tells_how_output_leaves(host, capsys, monkeypatch, release, told):
    output = {"agreed_frames": 12, "waited_frames": 3, "differences": {"bytes": 2}}
    monkeypatch.setattr(Witness, "transport", lambda self: {"output_release": release, "output": output})
    run_ctl(host, "status", in_sync=BOTH)
    out = capsys.readouterr().out
    assert told in out and bool(told) == ("differences: bytes 2" in out)


def test_status_without_a_daemon_is_down_and_names_the_units(host, capsys):
    assert ctl.main(["status"]) == 2
    error = capsys.readouterr().err
    assert "the daemon does not answer on" in error and "systemctl status plover-replica@demo plover-witness@demo" in error
    assert ctl.main(["status", "-o", "json"]) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert ctl.main(["switchover"]) == ctl.main(["audit"]) == 1


@pytest.mark.parametrize("command", ["switchover", "audit"])
def test_what_a_witness_cannot_do_is_refused(host, capsys, command):
    assert run_ctl(host, command, in_sync=BOTH) == 1
    assert f"'{command}' is not for a witness; run it on a replica" in capsys.readouterr().err


def test_a_cold_start_needs_a_yes(host, capsys):
    assert run_ctl(host, "cold-start", operator=Says({})) == 1
    assert "Add --yes" in capsys.readouterr().err
    assert run_ctl(host, "cold-start", "--yes", operator=Says({})) == 0
    assert capsys.readouterr().out == "cold-start: done\n"


@pytest.mark.parametrize("found, code", [((0, 0), 0), ((1, 0), 1), ((0, 1), 1)])
def test_an_audit_that_finds_something_is_told_by_the_exit_status(host, capsys, found, code):
    audit = {"pages": 65536, "number": 7, "mismatching": found[0], "untracked": found[1]}
    assert run_ctl(host, "audit", operator=Says(audit)) == code
    assert f"{found[0]} differ; {found[1]} had differed" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["restart"], ["status", "-o", "yaml"], ["status", "extra"], ["--vm"]])
def test_wrong_arguments_get_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        ctl.main(arguments)
    assert stop.value.code == 2 and "usage: ploverctl" in capsys.readouterr().err


def test_the_vm_must_be_known_or_the_only_one(host, capsys):
    assert ctl.main(["--vm", "other", "status"]) == 2
    assert "other.json: cannot be read" in capsys.readouterr().err
    (host / "second.json").write_text("{}")
    assert ctl.main(["history"]) == 2
    assert "2 VMs in" in (error := capsys.readouterr().err) and "--vm NAME (demo, second)" in error
    assert ctl.main(["--vm", "second", "status"]) == 2
    assert "second.json: name: is required" in capsys.readouterr().err
    for path in host.glob("*.json"):
        path.unlink()
    assert ctl.main(["status"]) == 2
    assert "0 VMs in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"nonsense\n",
        b'{"ok": true',
        b"[]\n",
        b"null\n",
        b'"ok"\n',
        b"7\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"ok": 1}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (client.REPLY_BYTES_MAX + 70_000),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_an_answer_that_is_none_is_like_no_answer(host, capsys, answer):
    async def run():
        async def answers(reader, writer):
            await reader.readline()
            writer.write(answer)
            writer.close()

        (host / "demo").mkdir()
        server = await asyncio.start_unix_server(answers, str(host / "demo" / "ctl.sock"))
        try:
            return [await asyncio.to_thread(ctl.main, [command]) for command in ("status", "switchover", "audit")]
        finally:
            server.close()

    assert asyncio.run(run()) == [2, 1, 1]
    assert capsys.readouterr().err.count("the daemon does not answer on") == 3


def test_a_daemon_that_hangs_is_given_up(host, capsys, monkeypatch):
    monkeypatch.setattr(ctl, "TIMEOUT_S", 0.1)
    (host / "demo").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host / "demo" / "ctl.sock"))
        listener.listen()
        assert ctl.main(["status"]) == 2
    assert "timed out" in capsys.readouterr().err


# --- the daemon's side ---


@pytest.mark.parametrize(
    "line, words",
    [
        (b"nonsense\n", "no JSON object"),
        (b"\n", "no JSON object"),
        (b"[]\n", "not an object"),
        (b"null\n", "not an object"),
        (b'"status"\n', "not an object"),
        (b"\xff\xfe\xfd\n", "no JSON object"),
        (b'{"cmd": "status"', "no JSON object"),
        (b"[" * 60_000 + b"\n", "no JSON object"),
        (b'{"cmd":' * 9_000 + b"\n", "no JSON object"),
        (b"{}\n", "None is not for a witness"),
        (b'{"cmd": "explode"}\n', "'explode' is not for a witness"),
        (b'{"cmd": ["status"]}\n', "['status'] is not for a witness"),
        (b'{"cmd": {"a": 1}}\n', "is not for a witness"),
    ],
    ids=lambda value: repr(value[:16]) if isinstance(value, bytes) else "",
)
def test_a_request_that_is_none_gets_an_error_and_harms_nobody(folder, line, words):
    (reply,) = talk(folder, line)
    assert reply["ok"] is False and words in reply["error"]


LINES = (
    st.binary(max_size=80).map(lambda line: line.replace(b"\n", b"") + b"\n").filter(lambda line: b"watch" not in line)
)  # which has more than one reply


@given(st.lists(LINES, max_size=4))
@limits(max_examples=examples(25))
def test_every_line_gets_one_reply(lines):
    with tempfile.TemporaryDirectory(prefix="plv") as path:
        replies = talk(Path(path), *lines, b'{"cmd": "status"}\n')
    assert [reply["ok"] for reply in replies[-1:]] == [True] and len(replies) == len(lines) + 1


def test_an_oversized_request_is_closed_and_harms_nobody(folder):
    assert talk(folder, b"x" * (2 * LINE_BYTES_MAX + 10), end=False) == []
    assert talk(folder, b'{"cmd": "' + b"x" * 60_000 + b'"}\n')[0]["ok"] is False


def test_who_says_nothing_is_closed(folder, monkeypatch):
    monkeypatch.setattr(ctl_server, "IDLE_S", 0.05)
    assert talk(folder, b'{"cmd": ', end=False) == []


def test_the_socket_is_for_root_only_and_replaces_an_old_one(folder):
    (folder / "demo").mkdir(mode=0o700)
    (folder / "demo" / "ctl.sock").write_text("left over")

    async def run():
        async with daemon(folder):
            return (folder / "demo" / "ctl.sock").stat().st_mode

    assert asyncio.run(run()) & 0o7777 == 0o600


def test_an_answer_that_takes_too_long_is_told(host, capsys):
    assert run_ctl(host, "switchover", operator=Says(asyncio.TimeoutError())) == 1
    assert "no answer in time; see 'ploverctl status'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        ('{"rdma_speed": 1}', "must be an object of settings rdma_*"),
        ('{"port": 7420}', "must be an object of settings rdma_*"),
        ('{"rdma_retry": 7}', "rdma_retry: 7 is out of range"),
        ('{"rdma_device": 1}', "rdma_device: must be of type str"),
    ],
)
def test_settings_for_rdma_check_that_make_no_sense_are_refused(text, says, capsys):
    with pytest.raises(SystemExit):
        ctl.main(["rdma", "check", "--address", "192.0.2.1", "--settings", text])
    assert says in capsys.readouterr().err


def test_settings_for_rdma_check():
    words = ["rdma", "check", "--address", "192.0.2.1", "--settings", '{"rdma_device": "mlx5_0", "rdma_port": 1}']
    assert parser().parse_args(words).settings == {"rdma_device": "mlx5_0", "rdma_port": 1}
