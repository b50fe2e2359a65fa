# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's own COLO mode, set up as in its docs (docs/COLO-FT.txt), without disks; none of our code is in its data path.

Differences from the docs, and their reasons. All were seen with Debian 12's 7.2.22 under TCG; `python -m bench.colo` shows it.

* ``colo_lock.c`` is preloaded. As shipped, the leader deadlocks in its first checkpoint, in every run; the file says how.
  That may come 20 s after the migration (x-checkpoint-delay), and until then all seems well. The same happens with:
  no filters at all; virtio-net with vnet_hdr_support, e1000 and rtl8139 without; default memory, a memfd,
  x-ignore-shared; 1 and 2 vCPUs; thread=single; other times of colo-compare. With q35 the secondary aborts.
* The guest has 8 KiB less than 256 MiB. If the size is a multiple of 256 KiB, QEMU clears its dirty bitmap by whole words
  (cpu_physical_memory_sync_dirty_bitmap), and TCG does not watch those pages again: writes get lost, and some
  checkpoints later the secondary's kernel panics. With any other size QEMU goes page by page, which works.
* The guest boots before the migration. If checkpoints are made while it boots, the secondary's guest receives nothing afterwards
  in one run of three, and clients get their answers only at the next checkpoint. Otherwise this never happened (0 of 20).
* ``nodelay`` on the proxy's sockets, so that its small packets do not wait for acknowledgements.
* A checkpoint every 2 s (the docs' figure; QEMU's default is 20 s) once the guest serves, and at once if outputs differ.
  Some 35 ms of each pause are a delayed acknowledgement: QEMU's migration socket has no TCP_NODELAY, and we leave it so.

Other versions, unpacked: 10.0.2 (bookworm-backports) never enters COLO mode: its migration ends as "completed", or with the
capability return-path as "failed". 11.1.2 (testing), with return-path, runs without ``colo_lock.c`` if it has the smaller
memory and boots first (5 runs of 5; else the secondary's kernel panicked in 3 of 4). It was not faster than 7.2, so all
systems have the distribution's QEMU. KVM, which does not have the first two bugs, was not tried: it boots no guest here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plover.config.settings import Config
from plover.qemu.launch_file import qmp_socket
from plover.qemu.process import command_line

from lab.by_name import by_name
from lab.paths import BUILD, ROOT

from . import guests, hosts, inside
from .hosts import TAP
from .load import BenchError

SOURCE, LIBRARY = ROOT / "bench/colo_lock.c", BUILD / "bench/colo_lock.so"
PERIOD_MS = 2000
START_S, ANSWER_S, CHECKPOINT_S = 10.0, 5.0, 15.0
LOST = ("RESET", "COLO_EXIT", "GUEST_PANICKED")  # events that no member in COLO mode may have had
READY = b"plover guest ready"
ABOUT = (
    "QEMU's own COLO mode as its docs set it up: a checkpoint every 2 s, and whenever outputs differ. Under TCG it "
    "runs only with a lock repaired from outside (bench/colo_lock.c) and 8 KiB less memory: see bench/colo.py"
)


def library() -> Path:
    """colo_lock.c, compiled."""
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    fresh = LIBRARY.with_suffix(f".{os.getpid()}")
    subprocess.run(["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared", "-o", fresh, SOURCE], check=True)
    return fresh.rename(LIBRARY)


# ---- command lines -------------------------------------------------------------------------------------------------
def primary_proxy(address: str, header: str = "vnet_hdr_support=on") -> list[str]:
    """Output goes to the comparison, and from there to the TAP; input goes to the guest and to the secondary."""
    listen, loop = "server=on,wait=off,nodelay=on", "host=127.0.0.1"
    return [
        "-chardev",
        f"socket,id=mirror0,host={address},port=9003,{listen}",
        "-chardev",
        f"socket,id=compare1,host={address},port=9004,{listen}",
        "-chardev",
        f"socket,id=compare0,{loop},port=9001,{listen}",
        "-chardev",
        f"socket,id=compare0-0,{loop},port=9001,nodelay=on",
        "-chardev",
        f"socket,id=compare_out,{loop},port=9005,{listen}",
        "-chardev",
        f"socket,id=compare_out0,{loop},port=9005,nodelay=on",
        "-object",
        f"filter-mirror,id=m0,netdev=net0,queue=tx,outdev=mirror0,{header}",
        "-object",
        f"filter-redirector,id=redire0,netdev=net0,queue=rx,indev=compare_out,{header}",
        "-object",
        f"filter-redirector,id=redire1,netdev=net0,queue=rx,outdev=compare0,{header}",
        "-object",
        "iothread,id=iothread1",
        "-object",
        f"colo-compare,id=comp0,primary_in=compare0-0,secondary_in=compare1,outdev=compare_out0,iothread=iothread1,{header}",
    ]


def secondary_proxy(address: str, header: str = "vnet_hdr_support=on") -> list[str]:
    return [
        "-chardev",
        f"socket,id=red0,host={address},port=9003,reconnect=1,nodelay=on",
        "-chardev",
        f"socket,id=red1,host={address},port=9004,reconnect=1,nodelay=on",
        "-object",
        f"filter-redirector,id=f1,netdev=net0,queue=tx,indev=red0,{header}",
        "-object",
        f"filter-redirector,id=f2,netdev=net0,queue=rx,outdev=red1,{header}",
        "-object",
        f"filter-rewriter,id=rew0,netdev=net0,queue=all,{header}",
    ]


def words(config: Config, repaired: bool) -> list[str]:
    """The command line of all systems, except memory size, network and incoming migration."""
    primary = config.member == "primary"
    script = config.network_ifup if primary else "no"  # the secondary's TAP is not on the bridge before it serves
    whole = f"{config.guest_memory_mib}M"
    size = f"{config.guest_memory_mib * 1024 - 8}K" if repaired else whole
    out = [
        f"tap,id=net0,ifname={TAP},script={script},downscript=no"
        if word.startswith("stream,")
        else word.replace(f"size={whole}", f"size={size}")
        if word != whole
        else size
        for word in by_name(config, command_line(config, False))
    ]
    address = hosts.HOSTS["primary"]
    return out + (primary_proxy(address) if primary else secondary_proxy(address) + ["-incoming", "tcp:0.0.0.0:9998"])


# ---- QMP -----------------------------------------------------------------------------------------------------------
class Monitor:
    """One QMP connection. A thread keeps the events, with the times that QEMU gives them: (name, seconds)."""

    def __init__(self, path: str) -> None:
        self.events: list[tuple[str, float]] = []
        self._answers: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX)
        _until(lambda: self._socket.connect_ex(path) == 0, START_S, f"nothing listens on {path}")
        threading.Thread(target=self._read, daemon=True).start()
        self.ask("qmp_capabilities")

    def _read(self) -> None:
        try:
            for text in self._socket.makefile("rb"):
                self._take(json.loads(text))
        except OSError:
            return  # QEMU was killed; whoever asks it something hears of that

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "event" in message:
                at = message["timestamp"]
                self.events.append((message["event"], at["seconds"] + at["microseconds"] / 1e6))
            elif "QMP" not in message:
                self._answers.append(message)
                self._changed.notify()

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer. Raises BenchError for an error, or if there is no answer in time."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        with self._changed:
            try:
                self._socket.sendall(json.dumps(request).encode())
            except OSError as error:
                raise BenchError(f"QMP {command}: {error}") from error
            if not self._changed.wait_for(lambda: self._answers, ANSWER_S):
                raise BenchError(f"QMP {command}: no answer within {ANSWER_S:g} s")
            answer = self._answers.pop(0)
        if "return" not in answer:
            raise BenchError(f"QMP {command}: {answer['error']['desc']}")
        return answer["return"]


def checkpoints_of(events: list[tuple[str, float]]) -> list[dict[str, Any]]:
    """The leader's pauses, from its STOP and RESUME events: one entry each, oldest first."""
    out, stopped = [], None
    for name, at_s in events:
        if name == "STOP":
            stopped = at_s
        elif name == "RESUME" and stopped is not None:
            out.append({"number": len(out) + 1, "at_s": at_s, "pause_ms": round(1000 * (at_s - stopped), 3)})
            stopped = None
    return out


def _until(condition: Callable[[], Any], timeout_s: float, problem: str) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"{problem} within {timeout_s:g} s")
        time.sleep(0.05)


# ---- the two QEMUs -------------------------------------------------------------------------------------------------
class Colo:
    """A primary and a secondary. ``spawn(host, words, **environment)`` starts a process there.

    ``repaired`` is false to see what QEMU does as shipped.
    """

    def __init__(self, configs: dict[str, Config], spawn: Callable[..., subprocess.Popen], repaired: bool = True) -> None:
        environment = {"LD_PRELOAD": str(LIBRARY)} if repaired else {}
        self._console = configs["primary"].log_path / "console.log"
        self._processes, self._monitors = {}, {}
        for member in hosts.REPLICAS:  # the primary first: it listens
            self._processes[member] = spawn(member, words(configs[member], repaired), **environment)
            self._monitors[member] = Monitor(qmp_socket(configs[member]))
        self.primary, self.secondary = (self._monitors[member] for member in hosts.REPLICAS)
        self._entered = 0  # events of the primary before it was in COLO mode

    def booted(self) -> bool:
        return READY in self._console.read_bytes()

    def enter(self) -> None:
        """Steps 3 and 4 of the docs."""
        for monitor in (self.secondary, self.primary):
            monitor.ask("migrate-set-capabilities", capabilities=[{"capability": "x-colo", "state": True}])
        self.primary.ask("migrate", uri=f"tcp:{hosts.HOSTS['secondary']}:9998")
        _until(self.in_colo_mode, START_S, "QEMU does not enter COLO mode")
        self._entered = len(self.primary.events)

    def in_colo_mode(self) -> bool:
        """Whether COLO mode is stable: neither being entered nor being left."""
        status = self.primary.ask("query-migrate").get("status")
        if status == "failed":
            raise BenchError(f"the migration into COLO mode failed: {self.primary.ask('query-migrate')}")
        modes = [monitor.ask("query-colo-status")["mode"] for monitor in (self.primary, self.secondary)]
        running = self.primary.ask("query-status")["running"] or bool(self.checkpoints())
        return status == "colo" and modes == ["primary", "secondary"] and running

    def begin(self) -> None:
        """Step 5, and the first checkpoint, which QEMU makes at once."""
        seen = len(self.checkpoints())
        try:
            self.primary.ask("migrate-set-parameters", **{"x-checkpoint-delay": PERIOD_MS})
            _until(lambda: self.primary.ask("query-status") and len(self.checkpoints()) > seen, CHECKPOINT_S, "no checkpoint")
        except BenchError as error:
            raise BenchError(f"{error}; the primary's threads:\n{threads(self._processes['primary'].pid)}") from None

    def checkpoints(self) -> list[dict[str, Any]]:
        return checkpoints_of(self.primary.events[self._entered :])

    def check(self) -> None:
        """Raises BenchError unless it is still in COLO mode and the secondary's guest never fell out of step."""
        if not self.in_colo_mode():
            raise BenchError(f"no longer in COLO mode: {self.primary.ask('query-colo-status')}")
        lost = [f"{member}: {name}" for member, monitor in self._monitors.items() for name, _ in monitor.events if name in LOST]
        if lost:
            raise BenchError(f"left COLO's lockstep: {', '.join(lost)}")

    def compares(self, ask_what_differs: Callable[[], Any]) -> None:
        """Raises BenchError unless an answer that differs between the guests forces a checkpoint at once: output is compared."""
        seen = len(self.checkpoints())
        _until(lambda: len(self.checkpoints()) > seen, CHECKPOINT_S, "no checkpoint")
        ask_what_differs()
        _until(lambda: len(self.checkpoints()) > seen + 1, PERIOD_MS / 2000, "outputs differ and there is no checkpoint")

    def fail_over(self, bridge: Callable[[], Any]) -> None:
        """The primary is gone: the docs' secondary failover. ``bridge`` connects the secondary's TAP."""
        self._processes["primary"].kill()
        self._processes["primary"].wait()
        self.secondary.ask("x-colo-lost-heartbeat")
        for name in ("f2", "f1"):
            self.secondary.ask("object-del", id=name)
        _until(lambda: self.secondary.ask("query-status")["running"], START_S, "the secondary does not run")
        bridge()
        self.secondary.ask("announce-self", **{"initial": 50, "max": 550, "rounds": 5, "step": 50})


def threads(pid: int) -> str:
    """Where each thread of a process is: its functions, innermost first, if there is a gdb; else its place in the kernel."""
    if not shutil.which("gdb"):
        tasks = sorted(Path(f"/proc/{pid}/task").iterdir())
        return "\n".join(f"{task.name}: {(task / 'wchan').read_text()}" for task in tasks)
    done = subprocess.run(
        ["gdb", "-q", "-batch", "-p", str(pid), "-ex", "thread apply all bt 12"], capture_output=True, text=True, timeout=60
    )
    found = re.findall(r"^Thread.*LWP (\d+).*\n((?:#.*\n)*)", done.stdout, re.M)
    return "\n".join(f"{thread}: " + " < ".join(re.findall(r"^#\d+ +(?:0x\w+ in )?(\w+) \(", frames, re.M)) for thread, frames in found)


def main() -> int:
    """Shows how QEMU behaves as shipped, and repaired."""
    if (status := inside.run("bench.colo", lambda: (guests.guest("memory"), library()))) is not None:
        return status
    from .groups import Group  # which starts this module's class: at the top it would be a circle

    hosts.make()
    hosts.shape(1_000)
    for repaired in (False, True):
        with tempfile.TemporaryDirectory(prefix="plover-colo-", dir="/dev/shm") as folder:
            print("repaired:" if repaired else "as shipped:", flush=True)
            try:
                group = Group("colo", Path(folder), 1, guests.guest("memory"), Path(folder), colo_repaired=repaired)
            except BenchError as error:
                print(error)
                continue
            try:
                time.sleep(3 * PERIOD_MS / 1000)
                print(f"checkpoints with their pauses in ms: {[round(c['pause_ms'], 1) for c in group.syncvms()]}")
                group.check()
                print("in COLO mode throughout; after the primary's death the secondary had what the primary had")
            except BenchError as error:
                print(error)
            finally:
                group.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
