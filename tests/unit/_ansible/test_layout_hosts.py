# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of hosts that cannot do their part, on what was seen there."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import failures, hosts
from hypothesis import given
from hypothesis import strategies as st

from tests.prechecks.inventory import HERE, good, vms

LIMITS = {"clock_difference_s": 5, "free_mib": {"/opt": 64, "/var/lib": 128}}
SPACE = {"exists": True, "free_mib": 9000, "size_mib": 9999, "free_inodes": 9999, "read_only": False, "device": 1}
QEMU = {
    "path": "/usr/bin/qemu-system-x86_64",
    "version": "7.2.22",
    "package": "Debian 1:7.2+dfsg-7+deb12u18",
    "candidate": "",
    "accelerators": ["tcg", "kvm"],
    "machines": ["pc"],
    "netdevs": ["stream"],
    "objects": ["memory-backend-file"],
    "block_drivers": ["quorum", "replication"],
}
NO_QEMU = {**QEMU, "version": "", "package": "", "accelerators": [], "machines": [], "netdevs": [], "objects": []}
CARD = {"addresses": [], "mtu": 1500, "up": True, "kind": "card", "master": "", "default_route": False}
LAST = {"primary": 11, "secondary": 12, "witness": 13}


def seen(host):
    address = f"192.168.78.{LAST[host]}"
    return {
        "hostname": host,
        "uid": 0,
        "python": "3.11.2",
        "machine": "x86_64",
        "kernel": "6.12",
        "systemd": True,
        "uffd_wp_problem": "",
        "soft_dirty_problem": "",
        "nft_problem": "",
        "kvm_problem": "",
        "cpu": {"vendor": "GenuineIntel", "model": "Xeon 1", "flags": ["sse4_2", "avx2"]},
        "memory_mib": 16000,
        "shm_mib": 8000,
        "qemu": QEMU,
        "listening": {},
        "rdma_devices": [],
        "paths": {"/opt": SPACE, "/var/lib": SPACE},
        "interfaces": {"ft0": {**CARD, "addresses": [address]}, "svc0": CARD},
        "replication_address": address,
        "clock_s": 1000.0,
        "clock_offset_s": 0.0,
        "clock_error_s": 0.2,
        "clock_synchronised": True,
    }


def problems(change=None, **vm):
    looks = {host: copy.deepcopy(seen(host)) for host in LAST}
    if change:
        change(looks)
    inventory = good()
    vms(inventory)[0].update(vm)
    variables = {
        host: {"plover_replication_address": f"192.168.78.{LAST[host]}", "plover_bridge_member": "svc0", "ansible_user": "root"}
        for host in LAST
    }
    return hosts.problems(vms(inventory), looks, variables, LIMITS, lambda path: 500)


def on(host, **changes):
    return lambda looks: looks[host].update(changes)


def card(host, name, **changes):
    return lambda looks: looks[host]["interfaces"].setdefault(name, dict(CARD)).update(changes)


def both(*changes):
    return lambda looks: [change(looks) for change in changes]


DOCKER = {"sysctl": "bridge-nf-call-iptables", "chain": "filter FORWARD (ip)", "accepts": ["br1"]}


def test_good_hosts_are_good():
    assert problems() == []
    assert problems(card("primary", "br0", kind="bridge", forward_delay_s=0.0)) == [], "no spanning tree"
    for accepts in (["*"], ["br0"], ["br1", "br0"]):
        assert problems(on("primary", bridge_filters=[{**DOCKER, "accepts": accepts}])) == [], "the admin made an exception"
    assert problems(on("witness", bridge_filters=[DOCKER])) == [], "a witness has no bridge"


@pytest.mark.parametrize(
    ("change", "vm", "starts", "remedy"),
    [
        (on("primary", failure=["login", "Permission denied"]), {}, "primary: ansible_user: root is not let in", "correct"),
        (on("primary", failure=["unreachable", "No route"]), {}, "primary: ansible_host: nothing is reached", "bring the host"),
        (on("witness", failure=["become", "Missing sudo password"]), {}, "witness: ansible_become", "ansible_become_password"),
        (on("witness", failure=["python", "not found"]), {}, "witness: ansible_python_interpreter", "install python3"),
        (on("witness", failure=["other", "odd"]), {}, "witness: prechecks", "-vvv"),
        (on("witness", uid=1000), {}, "witness: ansible_user: root is not root", "set ansible_become: true"),
        (on("witness", machine="aarch64"), {}, "witness: ansible_host: this host is aarch64", "name another host"),
        (on("witness", python="3.9.2"), {}, "witness: ansible_python_interpreter: Python 3.9.2 is too old", "3.11 or newer"),
        (on("witness", systemd=False), {}, "witness: ansible_host", "name another host"),
        (
            card("primary", "br0", kind="bridge", forward_delay_s=15.0),
            {},
            "primary: plover_bridge_name: br0 has its spanning tree (STP) on, so clients would wait 30 s after each failover",
            "stp_state 0",
        ),
        (
            both(card("primary", "br0", kind="bridge"), on("primary", bridge_filters=[DOCKER])),
            {},
            "primary: plover_bridge_name: frames of br0 pass the host's packet filter, as net.bridge.bridge-nf-call-iptables is 1",
            "set the sysctl to 0, or accept frames of br0 there",
        ),
        (
            card("secondary", "br0", kind="bridge"),
            {"settings": {"guest_mtu": 9000}},
            "secondary: settings.guest_mtu of demo: 9000 is more than the 1500 of br0",
            "raise the bridge's MTU, or lower settings.guest_mtu",
        ),
        (card("witness", "ft0", up=False), {}, "witness: plover_replication_address", "bring it up"),
        (
            card("secondary", "ft0", mtu=9000),
            {},
            "demo: plover_replication_address: the MTU of its card is 1500 on primary, witness, 9000 on secondary",
            "make it equal",
        ),
        (card("primary", "svc0", master="bond0"), {}, "primary: plover_bridge_member: svc0 belongs to bond0", "name one of ft0"),
        (card("primary", "br0"), {}, "primary: plover_bridge_name: br0 is no bridge", "choose another name"),
        (None, {"bridge": "br7"}, "primary, secondary: plover_bridges: is missing, and there is no bridge br7", "name one of"),
        (on("primary", memory_mib=300), {}, "primary: memory_mib: the VMs need 256 MiB, this host has 300", "smaller"),
        (on("primary", shm_mib=64), {}, "primary: memory_mib: the VMs need 256 MiB in /dev/shm, which holds 64", "remount it"),
        (
            on("primary", uffd_wp_problem="no"),
            {"settings": {"syncvm_dirty_tracking": "uffd-wp"}},
            "primary: settings.syncvm_dirty_tracking: uffd-wp",
            "set it to auto or scan",
        ),
        (
            on("primary", soft_dirty_problem="no"),
            {"settings": {"syncvm_dirty_tracking": "soft-dirty"}},
            "primary: settings.syncvm_dirty_tracking: soft-dirty",
            "set it to auto, uffd-wp or scan",
        ),
        (on("primary", nft_problem="no"), {}, "primary: settings.guest_spoof_check: auto does not work on this host", "or set it to"),
        (on("secondary", kvm_problem="no"), {"accel": "kvm"}, "secondary: accel: kvm does not work", "set accel: tcg"),
        (on("secondary", kvm_problem="no"), {"accel": "auto"}, "secondary: accel: kvm does not work", "set accel: tcg"),
        (on("secondary", kvm_problem="no"), {"accel": None}, "secondary: accel: kvm does not work", "set accel: tcg"),
        (on("secondary", qemu={**QEMU, "accelerators": ["tcg"]}), {"accel": "kvm"}, "secondary: qemu_packages", "accel kvm"),
        (on("secondary", qemu={**QEMU, "netdevs": ["user"]}), {}, "secondary: qemu_packages", "without -netdev stream"),
        (
            on("secondary", qemu={**QEMU, "block_drivers": ["quorum"]}),
            {"disks": [{"path": "/var/lib/a.img"}]},
            "secondary: qemu_packages",
            "without block driver replication",
        ),
        (on("secondary", qemu={**QEMU, "colo_loop": "none"}), {}, "secondary: qemu_packages", "without COLO"),
        (on("secondary", qemu={**QEMU, "colo_loop": "return-path"}), {}, "secondary: accel of demo: QEMU 7.2.22", "use accel: kvm"),
        (on("secondary", qemu={**QEMU, "version": "8.2.0"}), {}, "demo: QEMU is 7.2.22 and 8.2.0", "install one version"),
        (
            on("secondary", qemu={**QEMU, "package": "Debian 1:7.2+dfsg-7+deb12u15"}),
            {},
            "demo: QEMU is 1:7.2+dfsg-7+deb12u18 and 1:7.2+dfsg-7+deb12u15",
            "install one version",
        ),
        (on("secondary", qemu={**NO_QEMU, "candidate": "1:8.2"}), {}, "demo: QEMU is 1:7.2+dfsg-7+deb12u18 and 1:8", "install"),
        (
            on("secondary", cpu={"vendor": "AuthenticAMD", "model": "EPYC", "flags": []}),
            {"accel": "kvm"},
            "demo: accel: kvm, but the CPUs are Xeon 1 on primary and EPYC on secondary",
            "set accel: tcg",
        ),
        (
            on("secondary", cpu={"vendor": "GenuineIntel", "model": "Xeon 2", "flags": ["sse4_2", "avx512f"]}),
            {"accel": "kvm", "settings": {"guest_cpu": "host"}},
            "demo: settings.guest_cpu: host",
            "name a model that both have",
        ),
        (
            on("secondary", clock_offset_s=73.0),
            {},
            "demo: prechecks_clock_difference_s: the clock of secondary is 73 s ahead",
            "follow one time server",
        ),
        (on("primary", listening={"7420": {"pid": 5, "command": "nc -l"}}), {}, "primary: port: 7420 is in use", "choose"),
        (
            on("primary", listening={"7420": {"pid": 0, "command": ""}}),
            {},
            "primary: port: 7420 is in use here by a process that cannot be seen",
            "choose another",
        ),
        (
            None,
            {"settings": {"transport": "rdma", "rdma_trusted_network": True}},
            "primary, secondary, witness: plover_rdma_stack: none",
            "set it to distro",
        ),
        (
            on("primary", paths={"/opt": {**SPACE, "free_mib": 100}, "/var/lib": {**SPACE, "free_mib": 100}}),
            {},
            "primary: prechecks_free_mib: the disk is full: 100 MiB are free for /opt, /var/lib, 192 MiB are needed",
            "larger",
        ),
        (on("primary", paths={"/opt": {**SPACE, "free_inodes": 0, "device": 2}}), {}, "primary: prechecks_free_mib", "remove"),
        (on("primary", paths={"/opt": {**SPACE, "read_only": True}}), {}, "primary: prechecks_free_mib", "remount it"),
        (
            on("primary", paths={"/srv": {**SPACE, "free_mib": 9, "device": 3}, "/srv/a.img": {**SPACE, "exists": False}}),
            {"disks": [{"path": "/srv/a.img", "source": HERE}]},
            "primary: disks[].path: the disk is full: 9 MiB are free for /srv, 500 MiB are needed",
            "larger disk",
        ),
    ],
)
def test_one_error_is_one_line_with_the_hosts_the_variable_and_the_remedy(change, vm, starts, remedy):
    (line,) = problems(change, **vm)
    assert line.startswith(starts) and remedy in line


def test_what_differs_but_does_not_matter_is_not_refused():
    other = {"vendor": "AuthenticAMD", "model": "EPYC", "flags": []}
    assert problems(on("secondary", cpu=other)) == [], "with TCG the CPU does not matter"
    assert problems(on("secondary", qemu=NO_QEMU)) == [], "whose version is not known"
    assert problems(on("witness", qemu={**QEMU, "version": "9.9"})) == [], "a witness runs none"
    assert problems(on("secondary", clock_offset_s=6.0, clock_error_s=2.0)) == [], "a slow look is no wrong clock"
    ours = {"7420": {"pid": 7, "command": "/usr/bin/python3 -m plover.replica --vm demo"}}
    assert problems(on("primary", listening=ours)) == [], "an earlier run of the play"


def test_a_vm_that_has_run_without_kvm_keeps_tcg_also_where_one_host_is_new():
    no_kvm = both(on("primary", kvm_problem="no"), on("secondary", kvm_problem="no"), on("primary", accelerators={"demo": "tcg"}))
    assert problems(no_kvm, accel=None) == []
    assert len(problems(no_kvm, accel="kvm")) == 1
    assert len(problems(both(no_kvm, on("primary", accelerators={"another": "tcg"})), accel="auto")) == 1


def test_of_a_host_that_was_not_seen_one_line_is_said_and_the_others_are_judged():
    def change(looks):
        looks["secondary"].update(failure=["unreachable", "No route to host"])
        looks["primary"]["interfaces"]["ft0"]["mtu"] = 9000

    found = problems(change)
    assert [line.split(": ")[0] for line in found] == ["secondary", "demo"]


@pytest.mark.parametrize(
    ("text", "connection", "kind"),
    [
        ("Failed to connect to the host via ssh: no@h: Permission denied (publickey).", True, "login"),
        ("Failed to connect to the host via ssh: ssh: connect to host h port 22: No route to host", True, "unreachable"),
        ("Missing sudo password", False, "become"),
        ("/bin/sh: 1: sudo: not found", False, "become"),
        ("/bin/sh: 1: /usr/bin/python9: not found", False, "python"),
        ("something odd", False, "other"),
        ("", True, "unreachable"),
    ],
)
def test_why_a_host_cannot_be_looked_at_is_told_from_what_was_said(text, connection, kind):
    found, line = failures.failure_of(text, connection)
    assert found == kind and line and "\n" not in line


def test_one_failure_of_many_hosts_is_one_text():
    told = [
        f'Data could not be sent to remote host "192.168.77.1{n}". Make sure this host can be reached over ssh: '
        f"no@192.168.77.1{n}: Permission denied (publickey)."
        for n in (1, 2)
    ]
    assert [failures.failure_of(text, connection=True) for text in told] == [["login", "Permission denied (publickey)"]] * 2


@given(st.text(), st.booleans())
def test_a_failure_is_always_one_short_line(text, connection):
    kind, line = failures.failure_of(text, connection)
    assert kind and 0 < len(line) <= failures.TEXT_MAX and "\n" not in line
