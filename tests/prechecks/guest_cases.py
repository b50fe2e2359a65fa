# SPDX-License-Identifier: GPL-3.0-or-later
"""Beginners' errors about the guest itself; see cases.py."""

from __future__ import annotations

from .inventory import Case, vm

AT = "plover_vms[0]"

GUESTS = [
    Case("an unknown accelerator", vm(accel="hvf"), f"{AT}.accel", "must be auto, kvm or tcg"),
    Case("off without quotes", vm(on_poweroff=False), f"{AT}.on_poweroff", "not one of off, restart", 'put "off" in quotes'),
    Case("libvirt's word for a crash", vm(on_crash="destroy"), f"{AT}.on_crash", "is not one of ignore, keep"),
    Case("memory with a unit", vm(memory_mib="1G"), f"{AT}.memory_mib", "must be a whole number", "1G"),
    Case("too little memory", vm(memory_mib=8), f"{AT}.memory_mib", "32 to 1048576"),
    Case("no vCPU", vm(vcpus=0), f"{AT}.vcpus", "1 to 255"),
]
