# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM with several CPUs, arranged as its settings say: syncvms, a failover, audits."""

from __future__ import annotations

from harness import CLIENT_IP, GUEST_IP, connect
from test_main_job import lost, write

from lab.guest_image import CMDLINE


def test_a_vm_with_four_cpus_outlives_its_host(new_group):
    shown = " plover.cpus"
    group = new_group(guest_vcpus=4, guest_topology="2x2x1", guest_cmdline=CMDLINE.format(ip=GUEST_IP, gw=CLIENT_IP) + shown)
    group.start()
    leader, client, acked = group.settled(), connect(), {}
    assert "guest: 4 CPUs, 2 sockets of 2 cores" in (group.log_folder(leader) / "console.log").read_text()
    for n in range(100):
        write(client, acked, f"k{n}", str(n))
    assert group.audit()["mismatching"] == 0
    view = group.status(leader)["view"]
    group.power_off(leader)
    write(client, acked, "after", "x")
    group.start(leader)
    group.settled(after_view=view)
    assert lost(client, acked) == [] and group.audit()["mismatching"] == 0
