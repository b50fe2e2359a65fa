# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who escaped from a guest: runs code as QEMU's user, in QEMU's view of the files and of the network, with its limits."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from .. import deploy
from ..chaos import members
from ..hosts import Host
from . import group, stage
from .local_user import SEARCH, SOCKETS, hexes
from .outcome import COPIES, DAEMONS, Attack, Outcome, held, register, won
from .scene import NotPossible, Scene

ATTACKS: dict[str, Attack] = {}
attack = register(ATTACKS, "qemu_user")
RACE_S, PROTECTED_S, NEIGHBOUR_S = 25, 60.0, 60.0
CANARY = "/root/attack-canary"
UNTOUCHED = "600 root:root untouched"
EXECUTED = "/root/attack-executed"


def _qemu(scene: Scene, host: str, vm: str = members.VM) -> int:
    pid = group.main_pid(host, f"plover-qemu@{vm}")
    if not pid:
        raise NotPossible(f"{host} runs no QEMU of {vm}")
    return pid


def _state(scene: Scene, host: str, vm: str = members.VM) -> dict[str, str]:
    """QEMU's /proc/PID/status."""
    said = scene.root(host, f"cat /proc/{_qemu(scene, host, vm)}/status")
    return {key: value.strip() for key, value in (line.split(":", 1) for line in said.splitlines() if ":" in line)}


def _become(scene: Scene, host: str, mounts_of: int = 0) -> str:
    """A command that runs another one as code in QEMU would run: its user and groups, its namespaces, no capabilities it has not."""
    state, pid = _state(scene, host), mounts_of or _qemu(scene, host)
    user, gid, groups = state["Uid"].split()[1], state["Gid"].split()[1], ",".join(state["Groups"].split())
    if user == "0":
        raise NotPossible("QEMU is root: there is nobody to be")
    limits = "--bounding-set=-all --inh-caps=-all" + (" --no-new-privs" if state.get("NoNewPrivs") == "1" else "")
    membership = f"--groups={groups}" if groups else "--clear-groups"
    return f"nsenter -t {pid} -m -n -i setpriv --reuid={user} --regid={gid} {membership} {limits}"


def _as_qemu(scene: Scene, host: str, script: str, *words: str) -> str:
    said = scene.python(host, script, _become(scene, host), *words)
    if "looked" not in said:
        raise NotPossible(f"it could not run as QEMU's user: {said[-300:]}")
    return said


def _lines(said: str, word: str) -> list[str]:
    return sorted({line for line in said.splitlines() if line.startswith(word)})


@attack()
def makes_any_system_call(scene: Scene) -> Outcome:
    """Looks which system calls the kernel takes from QEMU. Succeeds if there is no seccomp filter."""
    bare = [host for host in members.REPLICAS if _state(scene, host).get("Seccomp") != "2"]
    return won(f"no seccomp filter on {', '.join(bare)}") if bare else held("a seccomp filter is on")


@attack()
def gains_privileges(scene: Scene) -> Outcome:
    """Looks whether QEMU may gain privileges by running a program that has them (set-user-ID). Succeeds if NoNewPrivs is off."""
    free = [host for host in members.REPLICAS if _state(scene, host).get("NoNewPrivs") != "1"]
    return won(f"NoNewPrivs is off on {', '.join(free)}") if free else held("NoNewPrivs is on")


@attack()
def shares_the_neighbour_s_user(scene: Scene) -> Outcome:
    """Compares the users of two VMs' QEMUs on one host. Succeeds if they are the same: each may then trace the other."""
    for host in members.REPLICAS:
        mine, theirs = (_state(scene, host, vm)["Uid"].split()[1] for vm in (members.VM, stage.NEIGHBOUR))
        if mine == theirs:
            return won(f"both VMs' QEMUs on {host} run as user {mine}")
    return held("each VM's QEMU has a user of its own")


@attack()
def reads_the_neighbour_s_memory(scene: Scene) -> Outcome:
    """Opens the memory file, the process memory and all sockets of another VM's QEMU on the same host. Succeeds if one of them opens."""
    host = scene.secondary
    pid = _qemu(scene, host, stage.NEIGHBOUR)
    ram = scene.root(host, f"grep -o '/dev/shm/[^ ]*' /proc/{pid}/maps | head -1").split()
    sockets = [word for word in scene.root(host, "ss -Hlx").split() if word.startswith("/") and f"/{stage.NEIGHBOUR}/" in word]
    if not sockets:
        raise NotPossible(f"{stage.NEIGHBOUR} has no sockets on {host}")
    script = "import sys\nfor path in sys.argv[1:]:\n try: print('opened', path, len(open(path, 'rb').read(64)))\n except OSError: pass\n"
    opened = _lines(_as_qemu(scene, host, script + "print('looked')", *ram, f"/proc/{pid}/mem", f"/proc/{pid}/environ"), "opened")
    opened += _lines(_as_qemu(scene, host, SOCKETS, *sockets), "connected")
    return won(f"{host}: {opened[0]}") if opened else held("files and sockets of the other VM are closed to it")


@attack()
def reads_secrets(scene: Scene) -> Outcome:
    """Reads settings, state and logs. Succeeds if it finds the group's secret, the fence agent's password, or a TLS key."""
    words = hexes([*scene.secrets(), b"PRIVATE KEY-----"])
    for host in members.REPLICAS:
        said = _as_qemu(scene, host, SEARCH, "/etc/plover:/var/lib/plover:/var/log:/run", *words)
        if found := _lines(said, "found in"):
            return won(f"{host}: {found[0]}")
    return held("what it can read shows none")


CONNECT = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), 2)
        print("connected", port)
    except OSError: pass
print("looked")
"""


@attack()
def reaches_the_network(scene: Scene) -> Outcome:
    """Connects from QEMU to the other host's ports, in a member's name, as its address is the member's. Succeeds if a connection is
    accepted."""
    host = scene.leader
    ports = [str(port) for _address, port in scene.members_ports(scene.secondary)]
    connected = _lines(_as_qemu(scene, host, CONNECT, Host(scene.secondary).replication_address, *ports), "connected")
    return won(f"{scene.secondary}: {connected[0]}") if connected else held("QEMU has no way to the network")


# Plants links to a root's file wherever root may make one: under all names that are or were in the folders that this user can write.
PLANT = """
import os, sys, time
target, end, roots = sys.argv[1], time.monotonic() + float(sys.argv[2]), sys.argv[3].split(":")
folders = sorted({f for root in roots for f, _n, _s in os.walk(root) if os.access(f, os.W_OK | os.X_OK)})
names = {f: set(os.listdir(f)) for f in folders}
for f in folders:
    for name in ("uffd", "device-state", "flush-failed", "qemu.json", "qemu.log", "holder.json", "ctl.sock", "qmp.sock", "net.sock",
                 "colo.sock", "capture.sock", "console.log", "console.log.1", "console.log.1.new", "nbd.sock"):
        names[f].add(name)
    names[f] |= {name + more for name in names[f] for more in (".tmp", ".new", "~")}
    print("may write", f)
planted, n = set(), 0
paths = [os.path.join(f, name) for f in folders for name in sorted(names[f])]
while time.monotonic() < end and paths:
    for path in paths:
        try: os.symlink(target, path)
        except OSError: continue
        planted.add(path)
    time.sleep(0.0002)
for path in planted:
    print("planted", path)
    try:
        if os.path.islink(path): os.unlink(path)
    except OSError: pass
print("looked")
"""


@attack(COPIES, DAEMONS)
def plants_links(scene: Scene) -> Outcome:
    """Plants links to a file of root's in all folders that it can write, while daemon and QEMU start anew on that host. Succeeds if that
    file is changed in any way: content, owner or mode."""
    host = scene.secondary
    scene.root(host, f"echo untouched >{CANARY}; chown root:root {CANARY}; chmod 600 {CANARY}")
    become, began = _become(scene, host, 1), time.monotonic()  # PID 1's files: QEMU's own ones end with it
    folders = "/run:/dev/shm:/var/lib/plover:/var/lib/plover-images:/var/log"
    with _Running(scene, host, PLANT, become, CANARY, str(RACE_S), folders) as planter:
        time.sleep(2.0)
        restart = f"systemctl stop plover-replica@{members.VM}; systemctl kill -s KILL plover-qemu@{members.VM}; sleep 0.5"
        scene.root(host, f"{restart}; systemctl start plover-replica@{members.VM}")
        members.wait(members.protected, max(1.0, began + RACE_S - time.monotonic()))
        said = planter.end()
    seen = scene.root(host, f"stat -c '%a %U:%G' {CANARY}; cat {CANARY}").split()
    scene.root(host, f"find {folders.replace(':', ' ')} -lname {CANARY} -delete; rm -f {CANARY}")
    if not members.protected(members.statuses()):  # a link in the way of a socket may have kept the daemon from starting
        scene.root(host, f"systemctl restart plover-replica@{members.VM}")
    if seen != UNTOUCHED.split():
        return won(f"root's file became {' '.join(seen)[:80]} through a link")
    return held(f"{len(_lines(said, 'planted'))} links planted in {len(_lines(said, 'may write'))} folders, root's file untouched")


class _Running:
    """A Python script on a host, meanwhile."""

    def __init__(self, scene: Scene, host: str, script: str, become: str, *words: str) -> None:
        self._said = ""

        def run() -> None:
            self._said = scene.python(host, script, become, *words)

        self._thread = threading.Thread(target=run)

    def __enter__(self) -> _Running:
        self._thread.start()
        return self

    def end(self) -> str:
        self._thread.join()
        return self._said

    def __exit__(self, *error: object) -> None:
        self._thread.join()


# Makes the launch file of a VM before root does, and owns it: what root starts is then what this user says.
LAUNCH = """
import json, os, sys, time
folder, executed, end = sys.argv[1], sys.argv[2], time.monotonic() + float(sys.argv[3])
path = os.path.join(folder, "qemu.json")
evil = json.dumps({"argv": ["/bin/sh", "-c", f"id -un >{executed}; exit 1"], "env": {}})
mine = False
while time.monotonic() < end:
    try:
        if not mine:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            os.chmod(path, 0o666)
            mine = True
            print("made", path)
        with open(path, "r+") as file:
            if file.read() != evil:
                file.seek(0)
                file.truncate()
                file.write(evil)
    except OSError:
        mine = False
        time.sleep(0.0001)
try: os.unlink(path)
except OSError: pass
print("looked")
"""


@attack()
def writes_the_launch_file(scene: Scene) -> Outcome:
    """Makes the file that says how another VM's QEMU is started, at that VM's first start on a host. Succeeds if what it says is run as
    root."""
    host, vm = scene.secondary, stage.NEIGHBOUR
    unit = f"plover-replica@{vm}"
    pid = _qemu(scene, host, vm)
    sockets = [Path(word) for word in scene.root(host, "ss -Hlx").split() if word.startswith("/") and f"/{vm}/" in word]
    if not pid or not sockets:
        raise NotPossible(f"{vm} does not run on {host}")
    folder, become = str(sockets[0].parent), _become(scene, host, 1)
    scene.root(host, f"rm -f {EXECUTED}; systemctl stop {unit}; systemctl kill -s KILL plover-qemu@{vm}; rm -rf {folder}")
    with _Running(scene, host, LAUNCH, become, folder, EXECUTED, str(RACE_S)) as racer:
        time.sleep(1.0)
        scene.root(host, f"systemctl start {unit}")
        said = racer.end()
    executed = scene.root(host, f"cat {EXECUTED} 2>/dev/null").strip()
    scene.root(host, f"systemctl stop {unit}; systemctl kill -s KILL plover-qemu@{vm}; rm -rf {folder} {EXECUTED}; systemctl start {unit}")
    _wait_neighbour(host)
    if executed:
        return won(f"{host} ran its words as {executed}")
    return held("it made the file, and nobody ran it" if "made" in said else "it could not make the file")


def _wait_neighbour(host: str) -> None:
    """The other VM is protected again, so that the next attack finds it so."""
    end = time.monotonic() + NEIGHBOUR_S
    while time.monotonic() < end and deploy.ploverctl(host, "--vm", stage.NEIGHBOUR, "status")[0]:
        time.sleep(1.0)
