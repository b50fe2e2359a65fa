# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys Plover onto the lab's hosts with its own play, and asks for its status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from . import disk_guest, guest_image
from .__main__ import execute
from .hosts import CLIENT, CLIENT_IP, MORE_HOSTS, SERVICE_IP, SERVICE_PORT
from .paths import LAB, ROOT

COLLECTIONS = ROOT / ".cache" / "collections"
PLAY = COLLECTIONS / "ansible_collections" / "plover" / "vmft" / "playbooks" / "deploy-plover.yml"
INVENTORY = LAB / "inventory.yml"
PATIENT = {"failover_budget_ms": 10_000}  # settings for which a busy machine does not look like a dead host
SECOND_IP = "192.168.79.51"  # of the second group's VM, if there are two groups
DISK_PATH = "/var/lib/plover-images/demo.img"


def guest(disk: bool) -> dict:
    """What a VM of the inventory needs for the lab's guest: in RAM alone, or with its data on a disk."""
    image = disk_guest.build() if disk else guest_image.build()
    disks = [{"path": DISK_PATH, "source": str(image.image), "serial": "system"}] if disk else []
    # The hosts' file systems may be without O_DIRECT (overlayfs), so the disk's cache stays at writeback.
    return {
        "kernel": str(image.kernel),
        "initrd": str(image.initrd),
        **({"disks": disks} if disk else {}),
        "cmdline": guest_image.CMDLINE.format(ip=SERVICE_IP, gw=CLIENT_IP),
    }


def second_vm(first: dict) -> dict:
    """A VM of the second group: its own replicas, the same host as witness, and the lab's guest in RAM."""
    image = guest_image.build()
    return {
        **first,
        "name": "second",
        "primary": "third",
        "secondary": "fourth",
        "port": 7440,
        "cluster_id": "0b54b2a8-7d0a-4f0e-9b1c-5a3c9a4a7b10",
        "mac": "52:54:00:70:6c:02",
        "addresses": [SECOND_IP],
        "tap": "plover1",
        "memory_mib": 160,
        "kernel": str(image.kernel),
        "initrd": str(image.initrd),
        "cmdline": guest_image.CMDLINE.format(ip=SECOND_IP, gw=CLIENT_IP),
    }


def write_inventory(disk: bool = False, groups: bool = False, patient: bool = False, vm: dict | None = None) -> None:
    """The example inventory as it is shipped, with one of the lab's guests, and the way to its hosts.

    ``vm``: another entry of plover_vms in place of the example's. ``groups``: a second group of hosts, with a VM of its own.
    ``patient``: with the settings PATIENT.
    """
    inventory = yaml.safe_load((ROOT / "playbooks" / "inventory.example.yml").read_text())
    variables = inventory["plover"]["vars"]
    if vm:
        variables["plover_vms"] = [vm]
    else:
        variables["plover_vms"][0].update(guest(disk))
    if patient:
        variables["plover_vms"][0]["settings"] = PATIENT
    if groups:
        inventory["plover"]["children"]["plover_replicas"]["hosts"].update(
            {
                name: {"ansible_host": f"192.168.77.{number}", "plover_replication_address": f"192.168.78.{number}"}
                for name, number in MORE_HOSTS.items()
            }
        )
        variables["plover_vms"].append(second_vm(variables["plover_vms"][0]))
    variables["ansible_ssh_common_args"] = f"-F {LAB / 'ssh_config'}"
    # Ansible names its control sockets by host and port alone, which are the same in every lab.
    variables["ansible_control_path_dir"] = str(LAB / "cp")
    variables["ansible_python_interpreter"] = "/usr/bin/python3"
    variables["plover_wheel_dir"] = str(LAB / "wheels")
    variables["secrets_ca_dir"] = str(LAB / "ca")  # not in the user's home, and not another lab's
    INVENTORY.write_text(yaml.safe_dump(inventory, sort_keys=False))


def environment() -> dict[str, str]:
    """The environment in which Ansible finds the collection that `make build` installed."""
    return {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_FORKS": "5",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(ROOT / ".cache" / "ansible"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }


def run_playbook(book: str | Path, inventory: Path, *options: str) -> subprocess.CompletedProcess:
    """ansible-playbook as a user calls it, with the collection that `make build` installed."""
    binary = Path(sys.executable).parent / "ansible-playbook"
    return subprocess.run(
        [str(binary), "-i", str(inventory), str(book), *options],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=LAB,
    )


def play(*options: str, playbook: str | Path | None = None) -> tuple[int, str]:
    """Run the play, or another (a path, or plover.vmft.NAME); (changed tasks over all hosts, its output). Raises SystemExit
    with the output if it fails."""
    done = run_playbook(playbook or PLAY, INVENTORY, *options)
    (LAB / "play.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise SystemExit(f"the play failed:\n{done.stdout[-6000:]}{done.stderr[-3000:]}")
    recap = done.stdout.rsplit("PLAY RECAP", 1)[1]
    return sum(int(word.split("=")[1]) for word in recap.split() if word.startswith("changed=")), done.stdout


def ploverctl(host: str, *words: str) -> tuple[int, dict]:
    """(exit status, reply) of `ploverctl ... -o json` on a host; (255, {}) if the host is not reached."""
    done = execute(host, " ".join(("ploverctl", *words, "-o", "json")))
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        return done.returncode or 255, {}


def lead(host: str, seconds: float, vm: str = "demo") -> None:
    """Let ``host`` lead: a machine that was very busy during the play may have seen a failover."""
    end = time.monotonic() + seconds
    while (status := wait_protected(host, seconds, vm))["role"] != "leader":
        if time.monotonic() > end:
            raise SystemExit(f"{host} does not lead after {seconds:.0f} s: {status['sentence']}")
        ploverctl(status["leader"], "--vm", vm, "switchover")


def wait_service(seconds: float, address: str = SERVICE_IP) -> None:
    """Waits until the guest's Redis answers a client."""
    ping = f"exec 3<>/dev/tcp/{address}/{SERVICE_PORT} && printf 'PING\\r\\n' >&3 && read -t 2 answer <&3 && [ \"$answer\" = $'+PONG\\r' ]"
    end = time.monotonic() + seconds
    while subprocess.run(["ip", "netns", "exec", CLIENT, "timeout", "4", "bash", "-c", ping], capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            raise SystemExit(
                f"the guest's Redis at {address}:{SERVICE_PORT} does not answer after {seconds:.0f} s; "
                "its console is /var/log/plover/demo/console.log on the leader's host"
            )
        time.sleep(0.2)


def wait_protected(host: str, seconds: float, vm: str = "demo") -> dict:
    end = time.monotonic() + seconds
    while True:
        code, reply = ploverctl(host, "--vm", vm, "status")
        if code == 0:
            return reply
        if time.monotonic() > end:
            raise SystemExit(f"not protected after {seconds:.0f} s: {reply.get('sentence', reply)}")
        time.sleep(0.3)
