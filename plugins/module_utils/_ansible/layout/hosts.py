# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems of the VMs' hosts, from the results of plover_host_info. Pure. Expects an inventory without problems.

Every problem at once, one line each: the hosts, the variable, what is wrong, the remedy.
"""

from __future__ import annotations

from .. import nics
from ..settings import KVM, TCG, accel_of
from . import pairs, trust
from .known import REPLICA_SEATS
from .space import problems as space_problems
from .vms import number, port_of, seats

MEMORY_SPARE_MIB = 256
PYTHON_MIN = (3, 11)
# Command lines of our own daemons and guests, from an earlier run of the play.
OURS = ("plover.replica", "plover.witness", "plover-replica", "plover-witness", "path=/run/plover/", "mem-path=/dev/shm/plover/")
BLOCK_DRIVERS = ("quorum", "replication")  # of a VM with disks
NO_COLO, RETURN_PATH = "none", "return-path"  # in qemu.colo_loop of what plover_host_info returns
ANY_BRIDGE = "*"  # in bridge_filters[].accepts
NETDEV, OBJECT = "stream", "memory-backend-file"


def problems(vms, looks, hosts, limits, file_mib=lambda path: 0):
    """One sentence per problem; an empty list if there is none.

    ``looks``: host -> result of plover_host_info, for the hosts of this run. ``hosts``: host -> its variables. ``limits``: the
    role's {clock_difference_s, free_mib}. ``file_mib(path)``: disk space of a file on this machine.
    """
    said = {}  # text -> the hosts with this problem
    vms = accelerated(vms, looks.values())
    for host, look in looks.items():
        here = [(vm, seat) for vm in vms for seat, name in seats(vm).items() if name == host]
        for text in _of_host(look, hosts.get(host) or {}, here, limits, file_mib):
            said.setdefault(text, []).append(host)
    usable = {host: look for host, look in looks.items() if not _unusable(look, hosts.get(host) or {})}
    return [f"{', '.join(where)}: {text}" for text, where in said.items()] + pairs.problems(vms, usable, limits)


def accelerated(vms, looks):
    """The VMs with the accelerator that each would have on these hosts."""
    kept = {name for look in looks for name, accel in (look.get("accelerators") or {}).items() if accel == TCG}
    return [{**vm, "accel": accel_of(vm, str(vm.get("name")) in kept)} for vm in vms]


def _of_host(look, values, here, limits, file_mib):
    unusable = _unusable(look, values)
    if unusable:
        return [unusable]
    replicas = [vm for vm, seat in here if seat in REPLICA_SEATS]
    out = _system(look) + _link(look, values) + _ports(look, here) + _rdma(look, values, [vm for vm, _seat in here])
    if replicas:
        out += _bridges(look, values, replicas) + _memory(look, replicas) + _kernel(look, replicas) + _qemu(look, replicas)
        out += _filter(look, replicas)
    out += trust.problems(look, values, here, limits)
    return out + space_problems(look, replicas, here, limits, file_mib)


def _unusable(look, values):
    """Why the host cannot be checked any further; empty if it can."""
    user = values.get("ansible_user") or values.get("remote_user") or "the user of this machine"
    kind, text = look.get("failure", ("", ""))
    if kind == "login":
        return f"ansible_user: {user} is not let in ({text}); correct ansible_user, or its key or password"
    if kind == "unreachable":
        address = values.get("ansible_host") or "its name"
        return f"ansible_host: nothing is reached at {address} ({text}); correct ansible_host, or bring the host up"
    if kind == "become":
        return f"ansible_become: {user} does not become root ({text}); set ansible_become_password, or let sudo do without"
    if kind == "python":
        return f"ansible_python_interpreter: there is no Python to run ({text}); install python3 on the host"
    if kind:
        return f"prechecks: the look at the host failed: {text}; run the play with -vvv"
    if look.get("uid") != 0:
        return f"ansible_user: {user} is not root on this host; set ansible_become: true, or ansible_user: root"
    return ""


def _system(look):
    out = []
    if look["machine"] != "x86_64":
        out.append(f"ansible_host: this host is {look['machine']}, and Plover's are x86_64; name another host")
    if tuple(int(part) for part in look["python"].split(".")[:2]) < PYTHON_MIN:
        out.append(
            f"ansible_python_interpreter: Python {look['python']} is too old for the runtime; name one of "
            f"{'.'.join(map(str, PYTHON_MIN))} or newer"
        )
    if not look["systemd"]:
        out.append("ansible_host: this host does not run systemd, which supervises Plover's daemons; name another host")
    return out


def _link(look, values):
    address, cards = values.get("plover_replication_address"), look["interfaces"]
    card = next((name for name, card in cards.items() if address in card["addresses"]), None)
    if card is None:
        have = ", ".join(f"{a} ({name})" for name, found in cards.items() if name != "lo" for a in found["addresses"])
        return [
            f"plover_replication_address: {address} is on no card of this host; it has {have or 'none at all'}: name "
            "one of them, or give the card this address"
        ]
    if not cards[card]["up"]:
        return [f"plover_replication_address: the card of {address}, {card}, is down; bring it up"]
    return []


def _ports(look, here):
    """Ports in use by other programs. One line for each port, even if several VMs need it."""
    wanted = {}
    for vm, _seat in here:
        wanted.setdefault(port_of(vm), "port")
    out = []
    for port, name in wanted.items():
        owner = look["listening"].get(str(port))
        if owner and not any(word in owner["command"] for word in OURS):
            who = f"process {owner['pid']} ({owner['command'][:60]})" if owner["pid"] else "a process that cannot be seen"
            out.append(f"{name}: {port} is in use here by {who}; choose another one")
    return out


def _rdma(look, values, vms):
    wanting = ", ".join(str(vm["name"]) for vm in vms if setting(vm, "transport", "tcp") == "rdma")
    # If plover_rdma_stack is set, role ofed makes the device.
    if not wanting or look["rdma_devices"] or (values.get("plover_rdma_stack") or "none") != "none":
        return []
    return [
        f"plover_rdma_stack: none, but the transport of {wanting} is rdma and this host has no RDMA device; set it to "
        f"distro, mlnx or soft-roce (role ofed), or settings.transport of {wanting} to tcp"
    ]


def _bridges(look, values, vms):
    members = {values.get("plover_bridge_name") or "br0": values.get("plover_bridge_member")}
    more = values.get("plover_bridges")
    members.update(
        {entry.get("name"): entry.get("member") for entry in (more if isinstance(more, list) else []) if isinstance(entry, dict)}
    )
    default = values.get("plover_bridge_name") or "br0"
    out = []
    for bridge in dict.fromkeys(card.get("bridge") or default for vm in vms for _place, card in nics.of(vm)):
        name = "plover_bridge_member" if bridge == default and not more else "plover_bridges"
        out += _bridge(look["interfaces"], bridge, members.get(bridge), name) + _way(look, bridge)
    for vm in vms:
        for place, card in nics.of(vm):
            bridge, mtu = card.get("bridge") or default, number(nics.setting_of(vm, place, "mtu", 0))
            have, key = look["interfaces"].get(bridge, {}).get("mtu", mtu), f"{place[1:]}.mtu" if place else "settings.guest_mtu"
            if have < mtu:
                out.append(f"{key} of {vm['name']}: {mtu} is more than the {have} of {bridge}; raise the bridge's MTU, or lower {key}")
    return out


def _way(look, bridge):
    """What keeps frames from the VM though it is in the bridge."""
    out, delay_s = [], look["interfaces"].get(bridge, {}).get("forward_delay_s", 0)
    if delay_s:
        out.append(
            f"plover_bridge_name: {bridge} has its spanning tree (STP) on, so clients would wait {2 * delay_s:.0f} s after each failover "
            f"until it forwards the VM's frames; switch it off (ip link set {bridge} type bridge stp_state 0; netplan: parameters: "
            "{stp: false})"
        )
    for found in look.get("bridge_filters", []):
        if not {ANY_BRIDGE, bridge} & set(found["accepts"]):
            out.append(
                f"plover_bridge_name: frames of {bridge} pass the host's packet filter, as net.bridge.{found['sysctl']} is 1 (Docker sets "
                f"it), and its chain {found['chain']} drops what no rule accepts, so nobody would reach the VM; set the sysctl to 0, or "
                f"accept frames of {bridge} there (with Docker: iptables -I DOCKER-USER -i {bridge} -o {bridge} -j ACCEPT)"
            )
    return out


def _bridge(cards, bridge, member, variable):
    if bridge in cards:
        if cards[bridge]["kind"] == "bridge":
            return []
        return [f"plover_bridge_name: {bridge} is no bridge on this host but a card; choose another name for the bridge"]
    free = [name for name, card in cards.items() if card["kind"] == "card" and not card["master"]]
    remedy = f"name one of {', '.join(free)}" if free else "this host has none that is free"
    if not member:
        return [f"{variable}: is missing, and there is no bridge {bridge}; {remedy}"]
    if member not in cards:
        return [f"{variable}: there is no card {member}, and no bridge {bridge} either; {remedy}"]
    if cards[member]["master"]:
        return [f"{variable}: {member} belongs to {cards[member]['master']} already; name that as the bridge, or {remedy}"]
    if cards[member]["kind"] != "card":
        return [f"{variable}: {member} is no card that clients can be behind; {remedy}"]
    return []


def _memory(look, vms):
    need, have, shm = sum(number(vm.get("memory_mib") or 256) for vm in vms), look["memory_mib"], look["shm_mib"]
    if have < need + MEMORY_SPARE_MIB:
        return [f"memory_mib: the VMs need {need} MiB, this host has {have} MiB; make them smaller"]
    if shm < need:
        return [
            f"memory_mib: the VMs need {need} MiB in /dev/shm, which holds {shm} MiB; remount it with a larger size, or make them smaller"
        ]
    return []


def setting(vm, key, default):
    given = vm.get("settings")
    return given.get(key, default) if isinstance(given, dict) else default


def _kernel(look, vms):
    ways, out = {setting(vm, "syncvm_dirty_tracking", "auto") for vm in vms}, []
    for way, why, remedy in (
        ("uffd-wp", look["uffd_wp_problem"], "run Linux 6.7 or newer with CONFIG_USERFAULTFD, or set it to auto or scan"),
        ("soft-dirty", look["soft_dirty_problem"], "set it to auto, uffd-wp or scan"),
    ):
        if way in ways and why:
            out.append(f"settings.syncvm_dirty_tracking: {way} does not work on this host, Linux {look['kernel']}: {why}; {remedy}")
    if look["kvm_problem"] and any(vm["accel"] == KVM for vm in vms):
        out.append(
            f"accel: kvm does not work on this host: {look['kvm_problem']}; enable virtualization in its firmware "
            "(or nested virtualization below it), or set accel: tcg, which makes the VM many times slower"
        )
    return out


def _filter(look, vms):
    ways = {}
    for vm in vms:
        for place, _card in nics.of(vm):
            key = f"{place[1:]}.spoof_check of {vm['name']}" if place else "settings.guest_spoof_check"
            ways.setdefault((key, nics.setting_of(vm, place, "spoof_check", "auto")))
    return [
        f"{key}: {way} does not work on this host, Linux {look['kernel']}: {look['nft_problem']}; run a kernel with "
        'nf_tables (CONFIG_NF_TABLES_NETDEV), or set it to "off"'
        for key, way in ways
        if look["nft_problem"] and way != "off"
    ]


def _qemu(look, vms):
    """What an installed QEMU must have been built with."""
    found = look["qemu"]
    if not found["version"]:
        return []
    lacks = []
    if any(vm["accel"] == KVM for vm in vms) and "kvm" not in found["accelerators"]:
        lacks.append("-accel kvm")
    lacks += [
        f"-machine {machine}"
        for machine in dict.fromkeys(setting(vm, "guest_machine", "pc") for vm in vms)
        if machine not in found["machines"]
    ]
    if found.get("block_drivers") is not None and any(vm.get("disks") for vm in vms):
        lacks += [f"block driver {driver}" for driver in BLOCK_DRIVERS if driver not in found["block_drivers"]]
    lacks += [] if NETDEV in found["netdevs"] else [f"-netdev {NETDEV}"]
    lacks += [] if OBJECT in found["objects"] else [f"-object {OBJECT}"]
    if lacks:
        return [
            f"qemu_packages: {found['path']} ({found['version']}) was built without {', '.join(lacks)}; install the "
            "distribution's QEMU, 7.2 or newer"
        ]
    return _colo(found, vms)


def _colo(found, vms):
    """Can it hold a second copy? (plover/qemu/colo_dialects.py)"""
    if found.get("colo_loop") == NO_COLO:
        return [
            f"qemu_packages: {found['path']} ({found['version']}) was built without COLO (--disable-replication, as on RHEL), so it "
            "cannot hold the second copy of a VM; use a distribution whose QEMU has it, such as Debian or Ubuntu"
        ]
    translated = [str(vm.get("name")) for vm in vms if vm["accel"] == TCG]
    if found.get("colo_loop") == RETURN_PATH and translated:
        return [
            f"accel of {', '.join(translated)}: QEMU {found['version']} cannot hold the second copy of a VM with tcg: after a syncvm it "
            "would go on with old translated code; use accel: kvm, or a QEMU up to 10"
        ]
    return []
