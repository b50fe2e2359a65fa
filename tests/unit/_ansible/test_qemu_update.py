# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU a running VM can go to, as play upgrade_qemu judges it before it changes anything."""

from __future__ import annotations

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible import qemu_update

NAMED = {"guest_machine": "pc-i440fx-7.2"}


def vms(settings=None, qemu="7.2.22", kind="replica"):
    versions = {"qemu": qemu, "machine": "pc-i440fx-7.2"}
    return {"demo": {"kind": kind, "status": {"versions": versions}, "configuration": {"vm": {"settings": settings}}}}


@pytest.mark.parametrize(
    ("found", "candidate"),
    [
        (vms(NAMED), "1:10.0.2+ds-2+deb13u1~bpo12+1"),
        (vms(NAMED), "8.2.1"),
        (vms(), "1:7.2+dfsg-7+deb12u19"),  # a security update of the same series
        (vms({**NAMED, "guest_cpu": "qemu64,+avx"}), "10.0.2"),
        (vms(kind="witness", qemu=""), "10.0.2"),
        (vms(qemu="11.1.3"), "11.1.4"),
        ({}, "10.0.2"),
    ],
)
def test_it_may_go(found, candidate):
    assert qemu_update.problems(found, candidate) == []


@pytest.mark.parametrize(
    ("found", "candidate", "says"),
    [
        (vms(), "10.0.2", "demo: settings.guest_machine: pc is another machine to QEMU 10.0.2; set it to pc-i440fx-7.2"),
        (vms({"guest_machine": "pc"}), "10.0.2", "demo: settings.guest_machine: pc"),
        (vms({**NAMED, "guest_cpu": "max,+x"}), "10.0.2", "demo: settings.guest_cpu: max,+x differs between versions"),
        (vms(NAMED), "11.1.3", "would go from QEMU 7.2.22 to 11.1.3, which is not tested"),
        (vms(NAMED, qemu="10.0.2"), "1:7.2+dfsg-7", "demo: runs on QEMU 10.0.2, and apt has 1:7.2+dfsg-7; a running VM never goes"),
        (vms(NAMED, qemu=""), "10.0.2", "demo: its QEMU does not run here"),
        ({"demo": {**vms()["demo"], "status": {}}}, "10.0.2", "demo: its QEMU does not run here"),
        (vms(NAMED), "(none)", "no version of QEMU to install was found"),
        (vms(NAMED), "", "no version of QEMU to install was found (apt names none)"),
        (vms(NAMED), None, "no version of QEMU"),
    ],
)
def test_it_may_not_go_and_one_line_says_why(found, candidate, says):
    (line,) = qemu_update.problems(found, candidate)
    assert says in line
