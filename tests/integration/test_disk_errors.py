# SPDX-License-Identifier: GPL-3.0-or-later
"""A promotion whose answers are lost, between real QEMUs, with a guest that runs from its disk."""

from __future__ import annotations

from harness import connect
from test_disks import compared
from test_main_job import lost, other, write


def test_a_promotion_goes_on_where_it_was_refused(disk_group):
    """QEMU ends its server and leaves the COLO loop once only; an answer that is lost must not end the VM."""
    group = disk_group(replica="refusing_replica")
    client, acked, leader = connect(), {}, "primary"
    for command in ("x-colo-lost-heartbeat", "query-colo-status"):
        write(client, acked, f"before {command}", "1")
        (group.run_folder(other(leader)) / "refuse").write_text(command)
        group.power_off(leader)
        leader = other(leader)
        write(client, acked, f"after {command}", "2")
        assert f"QMP {command}: its answer was lost" in group.log(leader)
        assert lost(client, acked) == []
        group.start(other(leader), replica="refusing_replica")
        group.wait(leader, seconds=90, service="protected")
        assert group.status(leader)["disk_state"] == {"state": "whole", "error": ""}
        assert compared(group) == (0, 0, 0)
