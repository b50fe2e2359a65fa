# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that is attacked: as the play deploys it, with things worth stealing, and with the attackers' places in it.

Two VMs share the replicas. `demo` is attacked: its guest runs a root shell for whoever connects, as if somebody had got in, and it
has a disk. The other one shows what somebody who escaped from `demo` may do to a neighbour. The hosts have an address on the
clients' network, as most have; a local user; and the settings of a patient group, so that a busy machine causes no failover.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import yaml
from plover.config.settings import SETTINGS

from .. import deploy, guest_image
from ..__main__ import execute
from ..__main__ import up as hosts_up
from ..chaos import members
from ..guest_image import GUEST, cpio
from ..hosts import CLIENT, CLIENT_IP, HOSTS, NETNS, SERVICE_IP, Host, down, ip, netns_name, sh
from ..netns import inside
from ..paths import LAB, SUFFIX
from ..up import say

EVIL, EVIL_IP = f"plover-evil{SUFFIX}", "192.168.78.99"  # an attacker's machine on the replication network
LOCAL_USER = "mallory"
NEIGHBOUR, NEIGHBOUR_IP = "second", "192.168.79.51"
DISK = "/var/lib/plover-images/attack.img"
DISK_BYTES, MARK_AT, SCRATCH_AT = 4 << 20, 1 << 20, 2 << 20
SERVICE_IPS = {"primary": "192.168.79.11", "secondary": "192.168.79.12"}  # of the hosts themselves, on br0
LOOT = LAB / "loot.json"
PROTECTED_S = 180.0


def loot() -> dict[str, str]:
    """What is worth stealing, made once for each lab. The disk's mark is on the disk, the memory's in the guest's Redis; the
    password is the fence agent's."""
    if not LOOT.exists():
        LOOT.write_text(json.dumps({key: f"{key}-{secrets.token_hex(24)}" for key in ("disk", "memory", "password")}))
    return dict(json.loads(LOOT.read_text()))


def guest_initrd() -> Path:
    """The lab's guest with a root shell on a port and a tool that sends raw frames."""
    tool, out = LAB / "frames", LAB / "attacked-initrd.img"
    sh("gcc", "-static", "-O1", "-o", str(tool), str(GUEST / "frames.c"))
    more = {"attack/init": (0o100755, (GUEST / "attack-init").read_bytes()), "attack/frames": (0o100755, tool.read_bytes())}
    base = guest_image.build().initrd.read_bytes()
    out.write_bytes(base + bytes(-len(base) % 512) + cpio(more))  # the kernel unpacks one archive after the other
    return out


def disk_source(mark: str) -> Path:
    out = LAB / "attacked.img"
    with open(out, "wb") as file:
        file.truncate(DISK_BYTES)
        file.seek(MARK_AT)
        file.write(mark.encode())
    return out


def vms(first: dict[str, Any], found: dict[str, str]) -> list[dict[str, Any]]:
    """The entries of plover_vms. ``first``: the example inventory's."""
    cmdline = guest_image.CMDLINE.format(ip=SERVICE_IP, gw=CLIENT_IP)
    attacked = {
        **first,
        "initrd": str(guest_initrd()),
        "cmdline": f"{cmdline} rdinit=/attack/init",
        "disks": [{"path": DISK, "source": str(disk_source(found["disk"])), "serial": "vault"}],
        "disk_overlay_mib": 32,
        **fence_agent(found["password"]),
    }
    own = {"disks": [], "settings": deploy.PATIENT, "primary": "secondary", "secondary": "primary"}
    return [attacked, {**deploy.second_vm(first), **own}]


def fence_agent(password: str) -> dict[str, Any]:
    """Keys of a VM whose fence agent needs a password: where it belongs, if there is such a place, else on its command line."""
    agent = ["/usr/local/sbin/fence", "{host}"]
    if "fence_input_file" in SETTINGS:
        return {"fence_input": f"passwd={password}\n", "settings": {**deploy.PATIENT, "fence_command": agent}}
    return {"settings": {**deploy.PATIENT, "fence_command": [*agent, "--password", password]}}


def write_inventory() -> None:
    deploy.write_inventory()
    inventory = yaml.safe_load(deploy.INVENTORY.read_text())
    variables = inventory["plover"]["vars"]
    variables["plover_vms"] = vms(variables["plover_vms"][0], loot())
    deploy.INVENTORY.write_text(yaml.safe_dump(inventory, sort_keys=False))


def bring_up() -> None:
    """A lab that is up and protected is taken as it is (KEEP=1 leaves one)."""
    if not (LOOT.exists() and all(members.first_process(name) for name in HOSTS) and members.wait(members.protected, 30.0)):
        clear()
        say("making three hosts with two VMs")
        hosts_up(list(HOSTS))
        LOOT.unlink(missing_ok=True)
        for name in HOSTS:
            execute(name, f"useradd --create-home {LOCAL_USER}")
        write_inventory()
        deploy.play()
        deploy.wait_protected("primary", PROTECTED_S)
        deploy.wait_protected("primary", PROTECTED_S, NEIGHBOUR)
        for address in (SERVICE_IP, NEIGHBOUR_IP):
            deploy.wait_service(60, address)
    set_places()


def set_places() -> None:
    """The attackers' ways into the lab; a host that was switched off has lost its part of them."""
    for host, address in SERVICE_IPS.items():
        ip(netns_name(host), f"addr replace {address}/24 dev br0")
        ip(CLIENT, f"route replace {Host(host).replication_address} via {address}")
    if not Path(f"/run/netns/{EVIL}").exists():
        sh("ip", "netns", "add", EVIL)
        ip(EVIL, "link set lo up")
        ip(NETNS, f"link add evil type veth peer name eth0 netns {EVIL}")
        ip(NETNS, "link set evil master brft up")
        ip(EVIL, f"addr add {EVIL_IP}/24 dev eth0")
        ip(EVIL, "link set eth0 up")
    for host in HOSTS:  # it never asks: a question with a borrowed address would tell all hosts a lie
        mac = ip(netns_name(host), "-o link show ft0").split("link/ether ")[1].split()[0]
        ip(EVIL, f"neigh replace {Host(host).replication_address} lladdr {mac} dev eth0 nud permanent")
    # It passes on what it was not meant to get, and says nothing of it to anybody.
    for name, value in (("all/rp_filter", 0), ("eth0/rp_filter", 0), ("all/send_redirects", 0), ("eth0/send_redirects", 0)):
        sysctl(f"conf/{name}", value)
    sysctl("ip_forward", 1)


def sysctl(name: str, value: int) -> None:
    """Of the attacker's machine."""
    inside(EVIL, lambda: Path("/proc/sys/net/ipv4", name).write_text(str(value)))


def clear() -> list[str]:
    """Everything gone; what is left over."""
    sh("ip", "netns", "del", EVIL, check=False)
    left = down()
    return left + ([EVIL] if os.path.exists(f"/run/netns/{EVIL}") else [])
