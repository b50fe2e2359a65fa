# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the hosts of one VM: QEMU, CPU, the link's MTU, the clock. Pure."""

from __future__ import annotations

from .known import REPLICA_SEATS
from .vms import seats

FLAGS_SHOWN = 8


def problems(vms, looks, limits):
    """One line for each thing that differs, however many VMs the hosts share."""
    said = {}
    for vm in vms:
        members = [host for host in seats(vm).values() if host in looks]
        replicas = [host for seat, host in seats(vm).items() if seat in REPLICA_SEATS and host in looks]
        found = [_mtu(looks, members), _clock(looks, members, limits)]
        if len(replicas) == 2:
            found += [_qemu(looks, *replicas), _cpu(vm, looks, *replicas)]
        for text in filter(None, found):
            said.setdefault(text, []).append(str(vm["name"]))
    return [f"{', '.join(names)}: {text}" for text, names in said.items()]


def _qemu(looks, one, two):
    found = [looks[host]["qemu"] for host in (one, two)]
    same, installed = "install one version on both (qemu_packages, package qemu-system-x86)", [f["version"] for f in found]
    if all(installed):
        pair = installed if installed[0] != installed[1] else [_package(f) for f in found]
    else:
        # If QEMU is not installed yet: the version that the package would install; unknown if the list was never fetched.
        pair = [_package(f) for f in found]
        if not all(pair):
            return ""
    return f"QEMU is {pair[0]} and {pair[1]} on {one} and {two}; {same}" if pair[0] != pair[1] else ""


def _package(found):
    """The package's version: 'Debian 1:7.2+dfsg-7+deb12u18' of an installed QEMU, '1:7.2+dfsg-7+deb12u18' of a candidate."""
    return (found["package"].split() or [found["candidate"]])[-1]


def _cpu(vm, looks, one, two):
    """With KVM the guest runs on the host's CPU. A named guest CPU model hides features that only one host has."""
    if vm.get("accel") != "kvm":
        return ""
    first, second = looks[one]["cpu"], looks[two]["cpu"]
    remedy = "use hosts with equal CPUs, or set accel: tcg"
    if first["vendor"] != second["vendor"]:
        return f"accel: kvm, but the CPUs are {first['model']} on {one} and {second['model']} on {two}; {remedy}"
    given = vm.get("settings")
    model = str((given if isinstance(given, dict) else {}).get("guest_cpu", "qemu64")).partition(",")[0]
    differing = sorted(set(first["flags"]) ^ set(second["flags"]))
    if model in ("host", "max") and differing:
        shown = ", ".join(differing[:FLAGS_SHOWN]) + (", ..." if len(differing) > FLAGS_SHOWN else "")
        return (
            f"settings.guest_cpu: {model} shows the guest the CPU of {one} or {two}, and only one of them has {shown}; "
            "name a model that both have, like qemu64"
        )
    return ""


def _mtu(looks, members):
    found = {}
    for host in members:
        mtu = _link_mtu(looks[host])
        if mtu:
            found.setdefault(mtu, []).append(host)
    if len(found) < 2:
        return ""
    shown = ", ".join(f"{mtu} on {', '.join(hosts)}" for mtu, hosts in found.items())
    return f"plover_replication_address: the MTU of its card is {shown}; make it equal on all of them"


def _link_mtu(look):
    address = look.get("replication_address")
    return next((card["mtu"] for card in look["interfaces"].values() if address in card["addresses"]), 0)


def _clock(looks, members, limits):
    """A host's clock is known only to within half the duration of the call that read it."""
    known = [host for host in members if "clock_offset_s" in looks[host]]
    if len(known) < 2:
        return ""
    first, *_others, last = sorted(known, key=lambda host: looks[host]["clock_offset_s"])
    apart = looks[last]["clock_offset_s"] - looks[first]["clock_offset_s"]
    allowed = limits["clock_difference_s"]
    if apart - looks[last]["clock_error_s"] - looks[first]["clock_error_s"] <= allowed:
        return ""
    return (
        f"prechecks_clock_difference_s: the clock of {last} is {apart:.0f} s ahead of that of {first}, {allowed} s are "
        "allowed; let both follow one time server (chrony or systemd-timesyncd)"
    )
