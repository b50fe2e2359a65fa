# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of the disks' bytes between two real QEMUs: the members' own port, and no other."""

from __future__ import annotations

import os
from pathlib import Path

from harness import REPLICAS, connect, in_netns, sh
from test_disks import compared
from test_main_job import lost, other, write


def test_no_disk_has_a_port_of_its_own(disk_group):
    """Its writes go over the members' port: whoever else reaches the host finds nothing that would take a write."""
    group = disk_group()
    client, acked = connect(), {}
    write(client, acked, "k", "x" * 10_000)
    for _turn in range(2):
        leader = group.settled()
        listening = {line.split()[3] for line in sh(*in_netns("ss", "-Htln")).splitlines()}
        assert {address.rpartition(":")[2] for address in listening} == {"7420"}, listening
        assert [group.status(member)["disk_streams"]["open"] for member in REPLICAS] == [1, 1]
        for member, wanted in ((leader, []), (other(leader), ["export.sock"])):
            found = [path.name for path in group.run_folder(member).iterdir() if path.name in ("export.sock", "disks.sock")]
            assert found == wanted, member
        group.power_off(leader)
        write(client, acked, f"after{leader}", "y")
        group.start(leader)
        group.wait(other(leader), seconds=120, service="protected")
    assert compared(group) == (0, 0, 0) and lost(client, acked) == []


def test_beside_an_earlier_version_the_daemons_carry_the_bytes_and_no_qemu_has_a_network(disk_group):
    """Each takes the other for an earlier one, so both halves of disk_port are at work, and two failovers change their places."""
    group = disk_group(replica="earlier_replica")
    client, acked = connect(), {}
    write(client, acked, "k", "x" * 10_000)
    for turn in range(2):
        leader = group.settled()
        assert [group.status(member)["disk_streams"]["open"] for member in REPLICAS] == [1, 1], group.story()
        assert "asks for no proof" in group.log(leader) and "disk_port 7421 is open here" in group.log(other(leader))
        for member in REPLICAS:
            pid = group.qemu_pid(member)
            assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink(f"/proc/{group.daemons[member].pid}/ns/net")
            cards = [line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]]
            assert cards == ["lo"] and len(Path(f"/proc/{pid}/net/tcp").read_text().splitlines()) == 1, (member, cards)
        group.power_off(leader)
        write(client, acked, f"after{turn}", "y")
        group.start(leader, replica="earlier_replica")
        group.wait(other(leader), seconds=120, service="protected")
    assert compared(group) == (0, 0, 0) and lost(client, acked) == []


def test_a_stream_that_is_cut_costs_the_secondary_and_no_write(disk_group):
    """As any lost connection of the disks: the leader goes on alone, and fills the secondary again."""
    group = disk_group()
    client, acked = connect(), {}
    for turn in range(3):
        write(client, acked, f"before{turn}", "x" * 10_000)
        words = in_netns("ss", "-K", "dst", "127.0.1.1", "src", "127.0.1.2")
        sh(*words)  # all TCP between the replicas, as long as it is not dialled again
        write(client, acked, f"after{turn}", "y" * 10_000)
        group.settled()
    assert compared(group) == (0, 0, 0) and lost(client, acked) == []
