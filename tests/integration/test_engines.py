# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMUs of other Debian releases, under TCG: what works is protected, what would go on with stale code is refused.

`make test-engines` runs the main job, the disks and the switchover on each of those that work.
"""

from __future__ import annotations

from harness import connect
from test_main_job import lost, write

from lab import engines


def test_qemu_10_protects_a_vm(new_group):
    program = engines.binary("10.0")
    group = new_group(qemu_binary=str(program))
    group.start()
    group.wait("primary", service="protected")
    client, acked = connect(), {}
    for n in range(40):
        write(client, acked, f"k{n}", str(n) * 20)
    leader = group.settled()
    assert group.status(leader)["versions"]["qemu"] == engines.version(program)
    assert group.audit()["mismatching"] == 0
    group.power_off(leader)
    write(client, acked, "after", "x")
    group.start(leader)
    assert group.audit()["mismatching"] == 0 and lost(client, acked) == []


def test_qemu_11_is_refused_under_tcg_and_the_vm_goes_on(new_group):
    """Its second copy would run stale code after a failover, so there is none."""
    group = new_group(qemu_binary=str(engines.binary("11.1")))
    group.start()
    client, acked = connect(), {}
    write(client, acked, "k", "v")
    group.wait_for_log("secondary", "guest_accel: QEMU 11.1", seconds=60)
    assert "use kvm, or a QEMU up to 10" in group.log("secondary")
    write(client, acked, "after", "x")
    assert group.status("primary")["service"] == "degraded" and lost(client, acked) == []


def test_a_vm_moves_to_a_newer_qemu_while_it_serves_and_never_back(new_group):
    """As after an update of QEMU on one host after the other: secondary, switchover, the other one."""
    new = str(engines.binary("10.0"))
    machine = {"guest_machine": "pc-i440fx-7.2"}
    group = new_group(own={"secondary": {"qemu_binary": new, **machine}})
    group.start()
    group.wait("primary", service="protected")
    assert group.status("primary")["versions"]["machine"] == machine["guest_machine"]  # what "pc" is there
    client, acked = connect(), {}
    for n in range(40):
        write(client, acked, f"k{n}", str(n) * 20)
    assert group.audit()["mismatching"] == 0
    assert group.ctl("primary", "switchover")["ok"]
    group.wait_for_log("secondary", "primary cannot join: qemu_version is '7.2.", seconds=60)
    assert "and never to an older one" in group.log("secondary")
    write(client, acked, "on the new one", "x")
    group.power_off("primary")
    group.write_settings("primary", qemu_binary=new, **machine)
    group.start("primary")
    group.wait("secondary", seconds=90, service="protected")
    for n in range(40):
        write(client, acked, f"l{n}", str(n) * 20)
    assert group.audit()["mismatching"] == 0
    group.power_off("secondary")
    write(client, acked, "after", "x")
    assert lost(client, acked) == []


def test_a_newer_qemu_that_would_show_the_guest_another_machine_says_so(new_group):
    group = new_group(own={"secondary": {"qemu_binary": str(engines.binary("10.0"))}})
    group.start()
    client, acked = connect(), {}
    write(client, acked, "k", "v")
    group.wait_for_log("primary", "secondary cannot join: guest_machine is 'pc-i440fx-10.0' there and 'pc-i440fx-7.2' here", seconds=60)
    assert group.status("primary")["service"] == "degraded" and lost(client, acked) == []
