# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong is refused with its name and a remedy, and the VM that runs does not notice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time

import pytest
from harness import ADDRESSES, connect, socket_in_netns
from plover.protocol import codec, wire

PORT = 7420
OURS = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
FOREIGN = "00000000-0000-4000-8000-000000000000"


def wait_sentence(group, member: str, *phrases: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not all(phrase in group.status(member).get("sentence", "") for phrase in phrases):
        assert time.monotonic() < end, f"{phrases} not in {group.status(member)}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("guest_memory_mib", 192, "guest_memory_mib is 192 there and 256 here; make them equal"),
        ("guest_machine", "pc-i440fx-7.1", "guest_machine is 'pc-i440fx-7.1' there and 'pc-i440fx-7.2' here, where the VM runs"),
        ("guest_kernel", "/no/such/vmlinuz", None),
    ],
)
def test_a_secondary_that_cannot_be_one_is_refused_and_the_vm_goes_on(new_group, setting, value, remedy):
    group = new_group()
    group.write_settings("secondary", **{setting: value})
    group.start()
    client = connect()
    assert client.ask("SET", "before", "1") == b"+OK"
    if remedy:
        wait_sentence(group, "primary", remedy)
        wait_sentence(group, "secondary", "refused by primary", remedy)
    else:
        wait_sentence(group, "secondary", setting, value, "the deploy play copies it")
    assert group.status("primary")["service"] == "degraded"
    assert client.ask("SET", "during", "2") == b"+OK"
    group.power_off("secondary")
    group.write_settings("secondary")
    group.start("secondary")
    group.wait("primary", service="protected")
    assert [client.ask("GET", key) for key in ("before", "during")] == [b"1", b"2"]


def test_a_bridge_that_does_not_exist_and_a_port_in_use_end_the_daemon_before_any_qemu(new_group):
    group = new_group()
    group.write_settings("primary", network_bridge="nosuch0")
    group.start("primary")
    assert group.daemons["primary"].wait(20) == 70
    assert "network_bridge: nosuch0 is no bridge of this host; create it (role 'bridge')" in group.log("primary")
    with socket_in_netns() as taken:
        taken.bind((ADDRESSES["secondary"], PORT))
        taken.listen()
        group.start("secondary")
        assert group.daemons["secondary"].wait(20) == 71
    assert "port" in group.log("secondary") and "in use" in group.log("secondary")
    for member in ("primary", "secondary"):
        assert not (group.run_folder(member) / "qmp.sock").exists(), "a QEMU was started"
        del group.daemons[member]


def hello(cluster: str, member: str, channel: int, tag_of: str = OURS) -> bytes:
    payload = json.dumps({"cluster_id": cluster, "member": member, "channel": channel, "version": "0.2.0"}).encode()
    return b"".join(codec.encode(wire.Hello(payload), codec.cluster_tag(tag_of)))


def messages() -> dict[str, bytes]:
    good = hello(OURS, "secondary", wire.CONTROL)
    rng = random.Random(7)
    beat = b"".join(codec.encode(wire.Heartbeat(9, 1, 0, 1, 1, 1), codec.cluster_tag(OURS)))
    return {
        "noise": rng.randbytes(5000),
        "noise that begins like TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(5000),
        "one byte of TLS": b"\x16",
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "of another cluster": hello(FOREIGN, "secondary", wire.CONTROL, FOREIGN),
        "of another cluster under our tag": hello(FOREIGN, "secondary", wire.CONTROL),
        "of a stranger": hello(OURS, "mallory", wire.CONTROL),
        "of ourselves": hello(OURS, "primary", wire.CONTROL),
        "a heartbeat before any Hello": beat,
        "truncated, then the end": good[:-3],
        "another version": good[:4] + b"\x63" + good[5:],
        "oversized": good[: -len(good) // 2] + b"\xff" * 4000,
        "every length field at its largest": b"".join(good[:at] + b"\xff" * 4 + good[at + 4 :] for at in range(0, 16, 4)),
    }


def closed(sock: socket.socket, seconds: float) -> bool:
    sock.settimeout(seconds)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("security", ["tls", "none"])
def test_messages_of_strangers_are_refused_and_the_running_vm_is_not_harmed(new_group, security):
    group = new_group(link_security=security)
    group.start()
    group.wait("primary", service="protected")
    client = connect()
    assert client.ask("SET", "k", "v") == b"+OK"
    before = {m: group.status(m) for m in ADDRESSES}
    pids = {m: group.qemu_pid(m) for m in ("primary", "secondary")}
    with contextlib.ExitStack() as stack:
        sent = []
        for member in ADDRESSES:
            for what, data in messages().items():
                sock = stack.enter_context(socket_in_netns())
                sock.connect((ADDRESSES[member], PORT))
                sock.sendall(data)
                if "truncated" in what:
                    sock.shutdown(socket.SHUT_WR)
                sent.append((member, what, sock))
            assert client.ask("GET", "k") == b"v"
        for member, what, sock in sent:
            assert closed(sock, 6.0), f"{member} keeps a connection open that sent {what}"
        assert client.ask("GET", "k") == b"v"
    time.sleep(0.5)
    for member, status in before.items():
        now = group.status(member)
        assert [now[k] for k in ("view", "leader", "service", "in_sync")] == [status[k] for k in ("view", "leader", "service", "in_sync")]
        assert "refused" in group.log(member)
        assert group.daemons[member].poll() is None
    assert {m: group.qemu_pid(m) for m in pids} == pids


def test_tracking_by_scan_protects_as_well(new_group):
    """A secondary asks again while its memory is still being read."""
    group = new_group(syncvm_dirty_tracking="scan", guest_memory_mib=3072, syncvm_hash_threads=1, failover_budget_ms=10_000)
    group.start()
    group.wait("primary", service="protected")
    client = connect()
    for n in range(10):
        assert client.ask("SET", f"k{n}", str(os.getpid())) == b"+OK"
    report = group.audit()
    assert (report["mismatching"], report["untracked"]) == (0, 0), report
    group.power_off("primary")
    assert [client.ask("GET", f"k{n}") for n in range(10)] == [str(os.getpid()).encode()] * 10
