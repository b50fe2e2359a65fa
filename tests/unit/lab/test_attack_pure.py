# SPDX-License-Identifier: GPL-3.0-or-later
"""The attackers' pure parts: what counts as success, what is harm, frames and NBD words that are what they claim to be."""

from __future__ import annotations

import struct

import pytest

from lab.attack import frames, nbd
from lab.attack.group import Clients, Snapshot, harms
from lab.attack.outcome import COPIES, DAEMONS, VIEW, Attack, failed, good, held, judge, register, summary, table, won
from lab.attack.runner import ATTACKS, chosen
from lab.attack.scene import endpoint
from lab.attack.witness import _facts

MAC, OTHER = "52:54:00:70:6c:01", "52:54:00:70:6c:02"
ONE = Attack("guest-x", "guest", lambda scene: won("x"), frozenset())
WELL = Clients(100, 0, 300)
PIDS = {("primary", "plover-replica@demo"): "10", ("secondary", "plover-replica@demo"): "11", ("secondary", "plover-qemu@demo"): "12"}
BEFORE = Snapshot(3, "primary", PIDS)


# ---- results ----------------------------------------------------------------------------------------------------
def test_an_attack_succeeds_by_what_it_says_or_by_harm():
    assert not judge(ONE, held("no"), [], 1.0).succeeded
    assert judge(ONE, won("yes"), [], 1.0).succeeded
    assert judge(ONE, held("no"), ["a failover nobody asked for"], 1.0).succeeded


def test_an_attack_that_could_not_be_carried_out_is_not_good():
    assert good(summary([judge(ONE, held("no"), [], 1.0)]))
    assert not good(summary([judge(ONE, held("no"), [], 1.0), failed(ONE, "no shell in the guest")]))
    assert not good(summary([])) and not good(summary([judge(ONE, won("yes"), [], 1.0)]))


def test_the_result_names_what_succeeded():
    two = ONE._replace(name="guest-y")
    out = summary([judge(ONE, won("read the disk"), [], 1.0), judge(two, held("no"), [], 1.0), failed(two, "?", 2.0, ["lost"])])
    assert (out["attacks"], out["succeeded"], out["names"]) == (3, 2, ["guest-x", "guest-y"])
    assert out["errors"] == ["guest-y"] and out["details"][0]["what"] == "read the disk"


def test_the_table_has_a_line_for_each_attack():
    lines = table([judge(ONE, won("read\nthe disk " + "x" * 500), [], 1.0), failed(ONE, "no shell")]).splitlines()
    assert len(lines) == 4 and "SUCCEEDED" in lines[1] and "not run" in lines[2] and max(map(len, lines)) < 180
    assert lines[3] == "2 attacks, 1 succeeded, 1 could not be carried out"


# ---- harm -------------------------------------------------------------------------------------------------------
def test_a_group_that_is_as_before_was_not_harmed():
    assert harms(BEFORE, BEFORE, WELL, frozenset()) == []


@pytest.mark.parametrize(
    ("after", "clients", "says"),
    [
        (None, WELL, "not protected"),
        (BEFORE._replace(view=4, leader="secondary"), WELL, "a failover nobody asked for"),
        (BEFORE._replace(pids={**PIDS, ("primary", "plover-replica@demo"): "99"}), WELL, "the daemon on primary"),
        (BEFORE._replace(pids={**PIDS, ("secondary", "plover-qemu@demo"): "99"}), WELL, "the VM's copy on secondary"),
        (BEFORE, Clients(100, 2, 300), "2 acknowledged writes are lost"),
        (BEFORE, Clients(100, 0, 60_000), "no answer for 60000 ms"),
        (BEFORE, Clients(0, 0, 0, "did not end"), "is not known"),
    ],
)
def test_each_kind_of_harm_is_said(after, clients, says):
    [said] = harms(BEFORE, after, clients, frozenset())
    assert says in said


def test_what_the_test_itself_does_is_no_harm_and_anything_else_still_is():
    after = Snapshot(4, "secondary", {key: pid + "0" for key, pid in PIDS.items()})
    assert harms(BEFORE, after, WELL, frozenset({VIEW, DAEMONS})) == []
    assert len(harms(BEFORE, after, WELL, frozenset({COPIES, DAEMONS}))) == 1
    assert harms(BEFORE, after, Clients(9, 1, 300), frozenset({VIEW, COPIES, DAEMONS})) == ["1 acknowledged writes are lost"]


# ---- the list of attacks ----------------------------------------------------------------------------------------
def test_each_attack_says_who_does_what_and_what_success_is():
    assert len(ATTACKS) >= 25
    assert {a.attacker for a in ATTACKS.values()} == {"outsider", "client", "guest", "witness", "on_path", "local_user", "qemu_user"}
    assert [a.name for a in ATTACKS.values() if "Succeeds if" not in a.doc and "Success is harm only" not in a.doc] == []
    assert all(a.disturbs <= {VIEW, COPIES, DAEMONS} for a in ATTACKS.values())


def test_attacks_are_chosen_by_name_or_attacker():
    assert [a.name for a in chosen("guest-spoofs-arp")] == ["guest-spoofs-arp"]
    assert {a.attacker for a in chosen("on-path")} == {"on_path"} and chosen("") == list(ATTACKS.values())
    with pytest.raises(SystemExit, match="guest-spoofs-arp"):
        chosen("nonsense")


def test_an_attack_is_named_by_attacker_and_function():
    into: dict[str, Attack] = {}

    @register(into, "local_user")(COPIES)
    def does_something(scene):
        """Doc."""

    assert into["local-user-does-something"].disturbs == {COPIES}


# ---- frames -----------------------------------------------------------------------------------------------------
def test_the_checksum_is_that_of_rfc_1071():
    assert frames.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    packet = frames.ipv4("192.0.2.1", "192.0.2.2", frames.UDP, b"x")
    assert frames.checksum(packet[:20]) == 0


def test_an_arp_reply_claims_what_it_should():
    frame = frames.arp(MAC, frames.BROADCAST, frames.ARP_REPLY, (OTHER, "192.168.79.1"), (MAC, "192.168.79.2"), b"mark")
    assert frame[:14] == b"\xff" * 6 + frames.mac_bytes(MAC) + b"\x08\x06" and len(frame) == frames.FRAME_BYTES_MIN
    assert frame[14:42].hex() == "0001080006040002" + OTHER.replace(":", "") + "c0a84f01" + MAC.replace(":", "") + "c0a84f02"


@pytest.mark.parametrize(
    "frame",
    [
        frames.dhcp_offer(MAC, "192.168.79.50", b"a mark"),
        frames.router_advertisement(MAC, "fe80::1", b"a mark"),
        frames.neighbour_advertisement(MAC, "fe80::1", b"a mark"),
        frames.spanning_tree(MAC, b"a mark"),
        frames.tagged(frames.arp(MAC, OTHER, 1, (MAC, "192.0.2.1"), (OTHER, "192.0.2.2"), b"a mark"), 66),
        frames.datagram(MAC, frames.BROADCAST, "192.0.2.1", "192.0.2.255", (9, 9), b"a mark"),
    ],
    ids=["dhcp", "router", "neighbour", "stp", "vlan", "udp"],
)
def test_each_frame_carries_its_mark_and_its_sender(frame):
    assert b"a mark" in frame and frame[6:12] == frames.mac_bytes(MAC) and len(frame) >= frames.FRAME_BYTES_MIN


def test_icmpv6_has_a_valid_checksum():
    frame = frames.router_advertisement(MAC, "fe80::1", b"a mark")
    body = frame[54:]
    assert struct.unpack_from("!H", frame, 18)[0] == len(body) and len(body) % 8 == 0
    assert frames.checksum(frame[22:54] + struct.pack("!II", len(body), frames.ICMPV6) + body) == 0


def test_an_injected_segment_continues_the_stream():
    head = struct.pack("!HHIIBBHHH", 7420, 40_000, 0xFFFFFFFE, 7, 8 << 4, 0x10, 500, 0, 0) + b"\x01\x01\x08\x0a" + bytes(8)
    seen = frames.Segment(frames.ethernet(MAC, OTHER, frames.IPV4, frames.ipv4("192.0.2.1", "192.0.2.2", frames.TCP, head + b"abcd")))
    assert (seen.payload, seen.flow, seen.next_seq) == (b"abcd", ("192.0.2.1", 7420, "192.0.2.2", 40_000), 2)
    packet = seen.following(b"more")
    again = frames.Segment(frames.ethernet(MAC, OTHER, frames.IPV4, packet))
    assert (again.payload, again.seq, again.ack, again.flow) == (b"more", 2, 7, seen.flow) and len(again.head) == len(head)
    assert frames.checksum(packet[12:20] + struct.pack("!HH", frames.TCP, len(packet) - 20) + packet[20:]) == 0


@pytest.mark.parametrize("frame", [b"", bytes(60), frames.arp(MAC, OTHER, 1, (MAC, "192.0.2.1"), (OTHER, "192.0.2.2"))])
def test_what_is_no_tcp_is_no_segment(frame):
    with pytest.raises(ValueError, match="segment|no TCP"):
        frames.Segment(frame)


# ---- words ------------------------------------------------------------------------------------------------------
def test_the_exports_are_read_out_of_a_servers_answer():
    def reply(kind: int, data: bytes) -> bytes:
        return struct.pack("!QIII", nbd.REPLY_MAGIC, nbd.LIST, kind, len(data)) + data

    answer = nbd.GREETING + b"\0\x03" + b"".join(reply(nbd.SERVER, struct.pack("!I", len(name)) + name) for name in (b"disk0", b"disk1"))
    assert nbd.names(answer + reply(nbd.ACK, b"")) == [b"disk0", b"disk1"]
    assert nbd.names(answer[:30]) == nbd.names(b"") == nbd.names(b"SSH-2.0") == []


def test_endpoints_are_read_as_the_kernel_writes_them():
    assert endpoint("0B4EA8C0:1CFC") == ("192.168.78.11", 7420)


def test_a_refusal_tells_an_attacker_what_to_say():
    refusal = "memory is None there and 268435456 here; make them equal; qemu is None there and '7.2' here; make them equal"
    assert _facts(refusal) == {"memory": 268435456, "qemu": "7.2"}
