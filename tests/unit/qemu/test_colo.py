# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU says in its COLO loop and over QMP: a stand-in speaks well, badly, or not at all, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from plover.errors import QemuError
from plover.qemu import colo, qmp
from plover.qemu.colo import STATE_MAGIC, ColoPeer, device_state, enable_colo
from plover.qemu.colo_dialects import ENABLED, RETURN, choose
from plover.qemu.qmp import Qmp, peer_pid

RAM = b"\x01\x00\x00\x00\x02\x03ram\x00\x00\x00\x00"
STREAM = STATE_MAGIC + b"\x00\x00\x00\x03" + b"configuration" + RAM + b"devices"
WORD = struct.Struct("!I")


@pytest.fixture
def folder():
    """A short path: a UNIX socket's has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="plv") as path:
        yield path


# --- migration streams and device states ---


@given(st.binary(max_size=60), st.binary(max_size=60))
@example(b"", b"")
def test_the_command_comes_right_before_the_ram_section(before, after):
    head = STATE_MAGIC + before.replace(b"\x01", b"\x02")  # no section starts before ours
    for command in (ENABLED.command, RETURN.command):
        assert enable_colo(head + RAM + after, command) == head + command + RAM + after


def test_the_command_comes_before_the_first_of_two_ram_sections():
    assert enable_colo(STREAM + RAM, b"command") == STREAM[:21] + b"command" + RAM + b"devices" + RAM


@pytest.mark.parametrize(
    "stream",
    [b"", STATE_MAGIC, STREAM[1:], b"x" + STREAM, STREAM.replace(b"ram", b"RAM"), STREAM[:29], RAM, b"QEVN" + STREAM[4:]],
    ids=lambda value: repr(value[:20]),
)
def test_a_stream_that_is_not_qemus_is_refused(stream):
    with pytest.raises(QemuError, match="no RAM section; this QEMU's format is not known"):
        enable_colo(stream, ENABLED.command)


@given(st.binary(max_size=80))
@example(STATE_MAGIC)
@example(STATE_MAGIC + b"\0\0\0\3")
@example(STATE_MAGIC + b"\0\0\0\3x")
def test_a_device_state_is_taken_without_its_header_or_refused(saved):
    if saved[:4] == STATE_MAGIC and len(saved) > 8:
        assert device_state(saved) == saved[8:]
    else:
        with pytest.raises(QemuError, match=f"device state of {len(saved)} bytes"):
            device_state(saved)


# --- the COLO loop ---


def talk(folder, script, work, dialect=ENABLED):
    """Run ``work(ColoPeer)`` against ``script(reader, writer)`` as QEMU's migration socket; what came out of both."""

    async def run():
        heard, errors = [], []

        async def qemu(reader, writer):
            try:
                heard.append(await script(reader, writer))
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                errors.append(error)
            finally:
                writer.close()

        ours, qemus = socket.socketpair()
        peer, other = await ColoPeer.over(ours, dialect), asyncio.create_task(qemu(*await asyncio.open_unix_connection(sock=qemus)))
        try:
            return await work(peer), heard
        finally:
            peer.close()
            await asyncio.wait([other], timeout=5)

    return asyncio.run(run())


def says(*words, after=0):
    """A QEMU that reads ``after`` bytes and then says ``words``."""

    async def script(reader, writer):
        got = await reader.readexactly(after)
        writer.write(b"".join(word if isinstance(word, bytes) else WORD.pack(word) for word in words))
        await writer.drain()
        return got

    return script


STATE = b"device state"
STEPS = {
    "feed": (lambda peer: peer.feed(STREAM), [colo.READY], enable_colo(STREAM, ENABLED.command)),
    "stop": (lambda peer: peer.stop(), [colo.REPLY], WORD.pack(colo.REQUEST)),
    "load": (
        lambda peer: peer.load(STATE),
        [colo.RECEIVED, colo.LOADED],
        WORD.pack(colo.SEND) + b"\0" + WORD.pack(colo.SIZE) + struct.pack("!Q", len(STATE)) + STATE,
    ),
}
each_step = pytest.mark.parametrize("work, answers, request_bytes", STEPS.values(), ids=STEPS)


@each_step
def test_a_step_says_what_qemu_reads_and_ends_with_its_answer(folder, work, answers, request_bytes):
    result, heard = talk(folder, says(*answers, after=len(request_bytes)), work)
    assert (result, heard) == (None, [request_bytes])


@each_step
def test_any_other_answer_is_refused(folder, work, answers, request_bytes):
    for at, wanted in enumerate(answers):
        for wrong in {*range(8), 0x51455644, 2**32 - 1} - {wanted}:
            Path(folder, "colo").unlink(missing_ok=True)
            with pytest.raises(QemuError, match=f"COLO loop: expected message {wanted}, QEMU sent {wrong}$"):
                talk(folder, says(*answers[:at], wrong, after=len(request_bytes)), work)


@each_step
def test_an_answer_cut_at_any_length_is_refused(folder, work, answers, request_bytes):
    whole = b"".join(map(WORD.pack, answers))
    for length in range(len(whole)):
        Path(folder, "colo").unlink(missing_ok=True)
        with pytest.raises(QemuError, match=f"COLO loop: waiting for message {answers[length // 4]}"):
            talk(folder, says(whole[:length], after=len(request_bytes)), work)


@each_step
def test_a_qemu_that_does_not_answer_is_not_waited_for_for_ever(folder, monkeypatch, work, answers, request_bytes):
    monkeypatch.setattr(colo, "TIMEOUT_S", 0.05)

    async def silent(reader, writer):
        await reader.read()

    with pytest.raises(QemuError, match="COLO loop: waiting for message .*TimeoutError"):
        talk(folder, silent, work)


def test_a_spoilt_stream_is_refused_before_a_byte_is_sent(folder):
    async def all_of_it(reader, writer):
        return await reader.read()

    async def feed(peer):
        with pytest.raises(QemuError, match="no RAM section"):
            await peer.feed(b"nonsense")
        peer.close()
        await asyncio.sleep(0.02)

    assert talk(folder, all_of_it, feed) == (None, [b""])


# --- dialects ---


def test_with_a_return_path_qemu_closes_that_before_it_begins(folder):
    request = enable_colo(STREAM, RETURN.command)
    well = says(RETURN.greeting, colo.READY, after=len(request))
    assert talk(folder, well, lambda peer: peer.feed(STREAM), RETURN) == (None, [request])
    failed = says(bytes.fromhex("0001000400000001"), colo.READY, after=len(request))  # the load failed
    with pytest.raises(QemuError, match="expected 0001000400000000 before it begins, QEMU sent 0001000400000001"):
        talk(folder, failed, lambda peer: peer.feed(STREAM), RETURN)
    with pytest.raises(QemuError, match="waiting for the end of the return path"):
        talk(folder, says(RETURN.greeting[:5], after=len(request)), lambda peer: peer.feed(STREAM), RETURN)


CAPABLE = {"return": {}}


@pytest.mark.parametrize(
    "answers, dialect",
    [
        ([CAPABLE], ENABLED),
        ([{"error": {"class": "GenericError", "desc": "Capability 'x-colo' requires capability 'return-path'"}}, CAPABLE], RETURN),
    ],
    ids=["up to 10", "from 11 on"],
)
def test_a_qemu_is_asked_which_dialect_it_speaks(folder, answers, dialect):
    said = iter(answers)
    assert with_qmp(folder, choose, answer=lambda command: next(said)) is dialect
    assert list(said) == []


@pytest.mark.parametrize(
    "desc, problem",
    [
        ("COLO is not currently supported, please rerun configure with --enable-replication option", "qemu_binary: .* without COLO"),
        ("Parameter 'capability' does not accept value 'x-colo'", "qemu_binary: .* without COLO"),
        ("out of memory", "QMP migrate-set-capabilities: out of memory"),
    ],
)
def test_a_qemu_without_the_loop_is_told_from_one_that_fails(folder, desc, problem):
    with pytest.raises(QemuError, match=problem):
        with_qmp(folder, choose, answer=lambda command: {"error": {"class": "GenericError", "desc": desc}})


# --- QMP ---

GREETING = (
    json.dumps({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}).encode() + b"\r\n"
)
GONE = object()


def with_qmp(folder, work, greeting=GREETING, answer=lambda command: {"return": {}}, timeout_s=3.0):
    """``work(Qmp)`` against a QMP server that answers each command with ``answer(command)``."""

    async def qemu(reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(greeting)
            while text := await reader.read(4096):  # one command at a time, not ended by a line's end
                request = json.loads(text)
                reply = {"return": {}} if request["execute"] == "qmp_capabilities" else answer(request["execute"])
                if reply is GONE:
                    break
                if isinstance(reply, dict):
                    named = {"id": request["id"]} if "id" in request else {}
                    reply = json.dumps({**reply, **named}).encode() + b"\r\n"
                writer.write(reply)
        writer.close()

    async def run():
        server = await asyncio.start_unix_server(qemu, f"{folder}/qmp")
        try:
            client = await Qmp.connect(f"{folder}/qmp", timeout_s)
            try:
                return await asyncio.wait_for(work(client), 5.0)
            finally:
                await client.close()
        finally:
            server.close()

    return asyncio.run(run())


def test_a_command_returns_what_qemu_returns(folder):
    assert with_qmp(folder, lambda q: q.execute("query-x"), answer=lambda c: {"return": {"i": c}}) == {"i": "query-x"}


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"class": "GenericError", "desc": "no such thing"}},
        GONE,
        b"nonsense\r\n",
        b"\xff\xfe\r\n",
        b"[]\r\n",
        b"7\r\n",
        b"null\r\n",
        {"neither": 1},
        b'{"return": \r\n',
    ],
    ids=lambda a: "gone" if a is GONE else str(a)[:20],
)
def test_a_command_that_is_refused_or_answered_with_nonsense_is_a_qemu_error(folder, answer):
    with pytest.raises(QemuError, match="QMP cont: "):
        with_qmp(folder, lambda q: q.execute("cont"), answer=lambda c: answer)


def test_a_command_without_an_answer_is_given_up(folder, monkeypatch):
    monkeypatch.setattr(qmp, "COMMAND_TIMEOUT_S", 0.05)
    with pytest.raises(QemuError, match="QMP stop: no answer within 0.05 s"):
        with_qmp(folder, lambda q: q.execute("stop"), answer=lambda c: b"")
    Path(folder, "qmp").unlink()
    with pytest.raises(QemuError, match="QMP x-colo-lost-heartbeat: no RESUME within 0.05 s"):
        with_qmp(folder, lambda q: q.execute_and_wait("x-colo-lost-heartbeat", "RESUME"))


@pytest.mark.parametrize("answer", [[7], "x", None, {"x": 7}, {"status": 7}], ids=str)
def test_an_answer_of_another_shape_is_a_qemu_error(folder, answer):
    with pytest.raises(QemuError, match="QMP query-status: QEMU's answer is not understood"):
        with_qmp(folder, lambda q: q.ask("query-status", status=str), answer=lambda command: {"return": answer})


@pytest.mark.parametrize("answer", [b"x" * (11 << 20), b"[" * 30_000 + b"\r\n"], ids=["no end", "nested"])
def test_an_answer_without_end_or_bottom_costs_the_connection_not_the_daemon(folder, answer):
    async def work(client):
        with pytest.raises(QemuError, match="QMP stop: "):
            await client.execute("stop")
        await client.close()  # raised what the library's reader had died of: the daemon ended

    with_qmp(folder, work, answer=lambda command: answer)


def test_a_connection_that_broke_while_qemu_lives_is_made_again_with_its_listeners(folder):
    """Else a leader that is the only copy of its VM stands still for good: nobody can tell its QEMU to go on."""
    answers = iter([b"nonsense\r\n", {"return": {}}, b'{"event": "RESUME", "data": {}}\r\n'])

    async def work(client):
        seen = []
        watching = asyncio.create_task(client.watch(("RESUME",), lambda name, data: seen.append(name)))
        await asyncio.sleep(0)
        with pytest.raises(QemuError):
            await client.execute("stop")
        assert await client.execute("cont") == {}
        with contextlib.suppress(TimeoutError):  # answered with an event only
            await asyncio.wait_for(client.execute("query-status"), 0.2)
        watching.cancel()
        return seen

    assert with_qmp(folder, work, answer=lambda command: next(answers)) == ["RESUME"]


def test_events_that_nobody_asked_for_are_not_kept(folder):
    """A syncvm makes two or three; the library's default listener kept each one for ever."""
    event = b'{"event": "STOP", "data": {}}\r\n'

    async def work(client):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.execute("stop"), 0.3)
        return len(client._client.events.history)

    assert with_qmp(folder, work, answer=lambda command: event * 500) == 0


def test_what_a_listener_has_not_looked_at_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(qmp, "EVENTS_MAX", 10)
    event = b'{"event": "BLOCK_IO_ERROR", "data": {}}\r\n'

    async def work(client):
        with client.listening("BLOCK_IO_ERROR") as listener:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.execute("stop"), 0.3)
            return listener.dropped

    assert with_qmp(folder, work, answer=lambda command: event * 25) == 15


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0\r\n", b"{}\r\n", b"[]\r\n", b'{"QMP": 7}\r\n', b"\xff\r\n", b"7\r\n"])
def test_who_does_not_greet_like_qemu_is_given_up_with_its_socket_named(folder, greeting):
    with pytest.raises(QemuError, match=f"QEMU did not answer on {folder}/qmp within 0.05 s"):
        with_qmp(folder, lambda q: q.execute("stop"), greeting=greeting, timeout_s=0.05)


def test_a_socket_where_nobody_listens_is_given_up(folder):
    with pytest.raises(QemuError, match="did not answer"):
        asyncio.run(Qmp.connect(f"{folder}/none", 0.05))
    with pytest.raises(OSError):
        peer_pid(f"{folder}/none")
