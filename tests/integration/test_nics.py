# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM with two network cards on two bridges: each client keeps its connection and its writes, whichever card it came by."""

from __future__ import annotations

import time

from harness import CLIENT_IP, GUEST_IP, NETNS, REPLICAS, connect, limit, sh
from test_main_job import lost, other, write

from lab.guest_image import CMDLINE

SECOND_MAC, SECOND_IP, SECOND_CLIENT_IP = "52:54:00:70:6c:02", "192.168.80.50", "192.168.80.1"
SETTLE_S = 20.0


def make_second_bridge() -> None:
    for words in ("link add br1 address 02:70:6c:00:00:02 type bridge", f"addr add {SECOND_CLIENT_IP}/24 dev br1", "link set br1 up"):
        sh("ip", "-n", NETNS, *words.split())


def two_cards(new_group, **more):
    make_second_bridge()
    card = {"mac": SECOND_MAC, "bridge": "br1", "addresses": [SECOND_IP], **more}
    group = new_group(
        own={member: {"further_nics": [{**card, "tap": f"pt-{member}-1"}]} for member in REPLICAS},
        guest_cmdline=CMDLINE.format(ip=GUEST_IP, gw=CLIENT_IP) + f" plover.ip2={SECOND_IP}/24",
    )
    group.start()
    return group


def test_clients_of_both_cards_keep_connections_and_writes_over_failovers(new_group):
    group = two_cards(new_group)
    leader, acked = group.settled(), {}
    clients = {"one": connect(), "two": connect(address=SECOND_IP)}
    for n in range(200):
        for name, client in clients.items():
            write(client, acked, f"{name}-{n}", str(n))
    assert group.audit()["mismatching"] == 0
    for turn in range(2):
        view = group.status(leader)["view"]
        group.power_off(leader)
        for name, client in clients.items():  # the same connections
            write(client, acked, f"{name}-after-{turn}", "x")
        group.start(leader)
        leader = group.settled(after_view=view)
    for client in clients.values():
        assert lost(client, acked) == []
    assert group.audit()["mismatching"] == 0
    cards = group.status(leader)["nics"]
    assert [(card["mac"], card["tap"], card["bridge"]) for card in cards] == [
        ("52:54:00:70:6c:01", f"pt-{leader}", "br0"),
        (SECOND_MAC, f"pt-{leader}-1", "br1"),
    ]
    assert all(card["filter"]["check"] == "strict" and not card["filter"]["error"] for card in cards)


def test_the_neighbours_on_both_bridges_learn_where_the_vm_is(new_group):
    """By the announcements alone: nobody asks, and the guest has nothing to send."""
    group = two_cards(new_group)
    leader = group.settled()
    connect().close(), connect(address=SECOND_IP).close()
    new = other(leader)
    group.power_off(leader)
    group.wait(new, role="leader")
    end = time.monotonic() + limit(SETTLE_S)
    for bridge, mac, tap in (("br0", "52:54:00:70:6c:01", f"pt-{new}"), ("br1", SECOND_MAC, f"pt-{new}-1")):
        while f"{mac} dev {tap}" not in (table := sh("bridge", "-n", NETNS, "fdb", "show", "br", bridge)):
            assert time.monotonic() < end, table
            time.sleep(0.05)


def test_a_card_whose_port_does_not_forward_is_named(new_group):
    group = two_cards(new_group)
    leader = group.settled()
    connect(address=SECOND_IP).close()
    sh("ip", "-n", NETNS, *"link set br1 type bridge stp_state 1 forward_delay 200".split())
    for words in ("nomaster", "master br1"):
        sh("ip", "-n", NETNS, *f"link set pt-{leader}-1 {words}".split())
    group.wait(leader, seconds=20, service="down")
    assert "clients cannot reach the VM: its port in br1 is l" in group.log(leader)
    group.wait_for_log(leader, "its port in br1 forwarded after", seconds=20)
    assert connect(address=SECOND_IP).ask("SET", "k", "v") == b"+OK" and group.settled() == leader


def test_a_second_card_that_only_one_host_has_is_refused_at_the_join(new_group):
    """An inventory cannot say that; a file that somebody changed by hand can."""
    make_second_bridge()
    group = new_group(own={"primary": {"further_nics": [{"mac": SECOND_MAC, "bridge": "br1", "tap": "pt-primary-1"}]}})
    group.start()
    said = "further_nics is [] there and [['virtio-net-pci', '52:54:00:70:6c:02', 0]] here; make them equal"
    end = time.monotonic() + limit(SETTLE_S)
    while said not in (sentence := group.status("secondary").get("sentence", "")):
        assert time.monotonic() < end, sentence
        time.sleep(0.2)
    assert connect().ask("PING") == b"+PONG"
