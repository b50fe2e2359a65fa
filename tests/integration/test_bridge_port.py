# SPDX-License-Identifier: GPL-3.0-or-later
"""A bridge with a spanning tree: a port forwards only after twice the forward delay, and everybody is told so."""

from __future__ import annotations

import socket
import time

from harness import NETNS, connect, sh
from test_main_job import lost, write
from test_operator import past

DELAY_S = 2  # the least that the kernel takes; 15 by default
JUMBO_BYTES = 9000


def spanning_tree(state: int) -> None:
    sh("ip", "-n", NETNS, *f"link set br0 type bridge stp_state {state} forward_delay {100 * DELAY_S}".split())


def test_the_time_until_the_port_forwards_is_told_and_counted(new_group):
    group = new_group()
    group.start()
    leader = group.settled()
    client, acked = connect(), {}
    write(client, acked, "before", "1")
    spanning_tree(1)
    view = group.status(leader)["view"]
    group.power_off(leader)
    end = time.monotonic() + 20
    while "not forwarding; switch its spanning tree (STP) off" not in "".join(
        said := [group.status(m).get("sentence", "") for m in group.daemons]
    ):
        assert time.monotonic() < end, said
        time.sleep(0.05)
    write(client, acked, "after", "2")
    group.start(leader)
    new = group.settled(after_view=view)
    assert lost(client, acked) == [] and "STP" not in group.status(new)["sentence"]
    row = [entry for entry in past(group, new) if entry["kind"] == "view"][-1]
    assert row["outage_ms"] > 2 * 1000 * DELAY_S and row["waited_for"].startswith("its port in br0 forwarded after "), row


def test_a_port_that_ceases_to_forward_is_noticed_and_told_when_it_does_again(new_group):
    """Here, as somebody takes it out of its bridge and puts it in again."""
    group = new_group()
    group.start()
    leader = group.settled()
    spanning_tree(1)
    for words in ("nomaster", "master br0"):
        sh("ip", "-n", NETNS, *f"link set pt-{leader} {words}".split())
    group.wait(leader, seconds=20, service="down")
    assert "clients cannot reach the VM: its port in br0 is l" in group.log(leader)  # listening, or learning by now
    group.wait_for_log(leader, "its port in br0 forwarded after", seconds=20)
    assert connect().ask("SET", "k", "v") == b"+OK" and group.settled() == leader


def test_jumbo_frames_reach_the_vm_and_come_from_it_on_either_host(new_group):
    """The TAP has the bridge's MTU, and the card tells the guest (guest_mtu)."""
    group = new_group(guest_mtu=JUMBO_BYTES)
    sh("ip", "-n", NETNS, "link", "set", "br0", "mtu", str(JUMBO_BYTES))
    group.start()
    value, leader = "x" * 500_000, group.settled()
    for _host in range(2):
        client = connect()  # the guest told its MTU in its SYN-ACK
        assert client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > 8000
        assert client.ask("SET", "k", value) == b"+OK" and client.ask("GET", "k") == value.encode()
        if group.status(leader).get("role") == "leader":
            group.power_off(leader)
    assert f"mtu {JUMBO_BYTES}" in sh("ip", "-n", NETNS, "link", "show", "br0")
