# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary user of the hosts, with a shell, and a reader of job logs on the control machine."""

from __future__ import annotations

import threading
from pathlib import Path

from .. import deploy
from ..__main__ import execute
from ..chaos import members
from ..hosts import HOSTS
from . import group, nbd, stage
from .outcome import COPIES, DAEMONS, Attack, Outcome, held, register, won
from .scene import NotPossible, Scene

ATTACKS: dict[str, Attack] = {}
attack = register(ATTACKS, "local_user")
PROTECTED_S = 60.0

# Says where it found one of the words (arguments: hexadecimal), in what this user can read.
SEARCH = """
import os, sys
words, roots = [bytes.fromhex(word) for word in sys.argv[2:]], sys.argv[1].split(":")
def look(path, limit=1 << 29):
    try:
        with open(path, "rb") as file:
            while limit > 0 and (data := file.read(1 << 24)):
                limit -= len(data)
                if any(word in data for word in words):
                    print("found in", path)
                    return
                if len(data) == 1 << 24: file.seek(-200, 1)
    except OSError:
        pass
for root in roots:
    for folder, names, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path): look(path)
print("looked")
"""
PROCESSES = """
import os, sys, time
words, end = [bytes.fromhex(word) for word in sys.argv[2:]], time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file: data = file.read(1 << 20)
            except OSError:
                continue
            if int(pid) != os.getpid() and any(word in data for word in words): print("found in", f"/proc/{pid}/{name}")
    time.sleep(0.02)
print("looked")
"""
SOCKETS = """
import json, socket, sys
for path in sys.argv[1:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        try:
            with socket.socket(socket.AF_UNIX, kind) as sock:
                sock.settimeout(2)
                sock.connect(path)
                print("connected", path)
        except OSError: pass
print("looked")
"""


def _found(said: str, word: str = "found in") -> list[str]:
    if "looked" not in said:
        raise NotPossible(f"the search did not end: {said[-300:]}")
    return sorted({line for line in said.splitlines() if line.startswith(word)})


def hexes(words: list[bytes]) -> list[str]:
    return [word.hex() for word in words]


@attack()
def reads_guest_memory(scene: Scene) -> Outcome:
    """Reads all files in memory file systems, and the memory of QEMU and of the daemons through /proc. Succeeds if the guest's secret is
    in it, or a process's memory can be opened."""
    scene.keep_memory_mark()
    for host in members.REPLICAS:
        found = _found(scene.as_user(host, SEARCH, "/dev/shm:/run", scene.loot["memory"].hex()))
        pids = [group.main_pid(host, unit) for unit in (f"plover-qemu@{members.VM}", f"plover-replica@{members.VM}")]
        opened = scene.as_user(host, "import sys\nfor pid in sys.argv[1:]: print(open(f'/proc/{pid}/mem', 'rb'))", *map(str, pids))
        if found or "BufferedReader" in opened:
            return won(f"{host}: {found[0] if found else opened.strip()}")
    return held("nothing that it can read has the guest's secret")


@attack(COPIES, DAEMONS)
def prepares_the_memory_folder(scene: Scene) -> Outcome:
    """Makes the folder of the guest's memory before Plover does, as it could before a host's first VM. Succeeds if the guest's secret can
    then be read."""
    scene.keep_memory_mark()
    host = scene.secondary
    pid = group.main_pid(host, f"plover-qemu@{members.VM}")
    ram = scene.root(host, f"grep -o '/dev/shm/[^ ]*' /proc/{pid}/maps | head -1").strip()
    if not ram:
        raise NotPossible("the guest's memory is no file in /dev/shm")
    folder = str(Path(ram).parent)
    stop = f"systemctl stop plover-replica@{members.VM}; systemctl kill -s KILL plover-qemu@{members.VM}; sleep 0.5"
    scene.root(host, f"{stop}; mv {folder} {folder}.aside")
    try:
        said = scene.as_user(host, f"import os\nos.umask(0)\nos.mkdir({folder!r})\nprint('made')")
        scene.root(host, f"systemctl start plover-replica@{members.VM}")
        members.wait(members.protected, PROTECTED_S)
        found = _found(scene.as_user(host, SEARCH, folder, scene.loot["memory"].hex())) if "made" in said else []
    finally:
        scene.root(host, f"{stop}; rm -rf {folder}; mv {folder}.aside {folder}; systemctl start plover-replica@{members.VM}")
    return won(f"{host}: {found[0]}") if found else held(f"{folder}: {'Plover did not use it' if 'made' in said else said.strip()[-80:]}")


@attack()
def reads_secrets(scene: Scene) -> Outcome:
    """Reads settings, state, logs, and all command lines and environments. Succeeds if it finds the group's secret, the fence agent's
    password or the disk's secret."""
    words = hexes([*scene.secrets(), scene.loot["disk"]])
    for host in HOSTS:
        found = _found(scene.as_user(host, SEARCH, "/etc:/var/lib:/var/log:/run:/opt/plover:/tmp:/var/tmp", *words))
        found += _found(scene.as_user(host, PROCESSES, "0.5", *words))
        if found:
            return won(f"{host}: {found[0]}")
    return held("neither files nor processes show them")


@attack()
def talks_to_sockets(scene: Scene) -> Outcome:
    """Connects to every UNIX socket of Plover and QEMU. Succeeds if one accepts."""
    for host in HOSTS:
        said = scene.root(host, "ss -Hlxp | grep -E 'plover|qemu|python'")
        paths = sorted({word for word in said.split() if word.startswith("/")})
        if not paths:
            raise NotPossible(f"{host} has no UNIX socket of Plover")
        found = _found(scene.as_user(host, SOCKETS, *paths), "connected")
        if found:
            return won(f"{host}: {found[0]}")
    return held("each of them is closed to it")


@attack()
def reads_the_disk(scene: Scene) -> Outcome:
    """On the secondary's host: reads the image, and asks each open port for a disk by NBD. Succeeds if it reads the disk's secret."""
    host = scene.secondary
    folder = str(Path(stage.DISK).parent)
    found = _found(scene.as_user(host, SEARCH, folder, scene.loot["disk"].hex()))
    if found:
        return won(found[0])
    for address, port in scene.members_ports(host):
        names = nbd.names(_exchange(scene, address, port, nbd.list_words()))
        for name in names:
            if scene.loot["disk"] in _exchange(scene, address, port, nbd.read_words(name, stage.MARK_AT, 512)):
                return won(f"read the secret through port {port}")
    return held("the image is closed to it, and no port exports it")


EXCHANGE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 2) as sock:
    sock.sendall(bytes.fromhex(sys.argv[3]))
    sock.settimeout(1)
    data = b""
    try:
        while len(data) < 65536 and (more := sock.recv(65536)): data += more
    except OSError: pass
print("said", data.hex())
"""


def _exchange(scene: Scene, address: str, port: int, words: bytes) -> bytes:
    said = scene.as_user(scene.secondary, EXCHANGE, address, str(port), words.hex())
    return bytes.fromhex(said.split("said ")[1].split()[0]) if "said " in said and said.split("said ")[1].strip() else b""


@attack()
def reads_the_job_log(scene: Scene) -> Outcome:
    """Reads what the play prints with -vvv --diff while it changes the secrets, and all command lines on a host meanwhile. Succeeds if a
    secret, an old or a new one, or the fence agent's password is in it."""
    words, host, seen = scene.secrets(), scene.leader, []
    watch = threading.Thread(target=lambda: seen.append(scene.as_user(host, PROCESSES, "30", *hexes(words))))
    watch.start()
    done = deploy.run_playbook(deploy.PLAY, deploy.INVENTORY, "-vvv", "--diff", "-e", "secrets_rotate=true")
    watch.join()
    if done.returncode:
        raise NotPossible(f"the play failed: {done.stdout[-300:]}")
    words = sorted({*words, *scene.secrets()})
    if any(word in (done.stdout + done.stderr).encode() for word in words):
        return won("the play's output shows a secret: " + _where(done.stdout, words))
    found = [line for said in seen for line in _found(said)]
    return won(f"{host}: {found[0]}") if found else held("neither the play's output nor command lines show one")


def _where(text: str, words: list[bytes]) -> str:
    """The task before the first secret."""
    at = min(place for word in words if (place := text.find(word.decode())) >= 0)
    return text[:at].rsplit("TASK [", 1)[-1].split("]")[0][:60]


@attack()
def reads_the_journal(scene: Scene) -> Outcome:
    """Reads the hosts' journals, as whoever collects logs may. Succeeds if a secret or the fence agent's password is in one."""
    words = scene.secrets()
    for host in HOSTS:
        journal = execute(host, "journalctl --no-pager | tail -c 20000000").stdout.encode()
        if any(word in journal for word in words):
            return won(f"the journal of {host} shows a secret")
    return held("no journal shows one")
