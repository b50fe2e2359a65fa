# SPDX-License-Identifier: GPL-3.0-or-later
"""Play rounds: clients, one fault, heal, protected again; then judge what the clients, the wire and the memory say."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..hosts import CLIENT, HOSTS, NETNS, Host, down
from ..paths import BUILD, ROOT
from ..up import say, up
from . import disk, history, members, voices
from .faults import FAULTS, PROTECTED_S_MAX, NotInTime, Scene, heal_all
from .result import Round

CHAOS = BUILD / "chaos"
WARM_ACKS, WARM_S_MAX = 100, 60.0
SETTLE_S = 1.5
LOAD_END_S_MAX, LOAD_END_UNPROTECTED_S_MAX = 150.0, 30.0
AUDIT_S_MAX = 60.0
REVIVE_S_MAX = 60.0
CELLS = [(fault, role) for fault, row in FAULTS.items() for role in row.roles]


def plan(rounds: int, seed: int, cells: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """``rounds`` cells in an order that ``seed`` fixes: each once before any comes again."""
    out: list[tuple[str, str]] = []
    source = random.Random(seed)
    while len(out) < rounds:
        out += source.sample(cells, len(cells))
    return out[:rounds]


def bring_up(disk_guest: bool) -> None:
    """A lab that is up, protected and has state disks is taken as it is (KEEP=1 leaves one)."""
    if all(os.path.ismount(Host(name).state_disk) and members.first_process(name) for name in HOSTS):
        heal_all()
        if members.wait(members.protected, 30.0):
            return
    down()
    for name in HOSTS:
        disk.plug_in(Host(name))
    up(disk=disk_guest)
    if members.wait(members.protected, PROTECTED_S_MAX) is None:
        raise SystemExit(f"chaos: not protected after {PROTECTED_S_MAX:.0f} s: {members.statuses()}")


def revive(disk_guest: bool) -> None:
    """After a round that left the VM unprotected, so that the next ones are worth something: what a person would do."""
    roles = members.roles(members.statuses())
    for role in ("secondary", "witness") if roles else ():
        say(f"power cycle of {roles[role]}, so that the next round can be played")
        Host(roles[role]).power_loss()
        Host(roles[role]).power_on()
    if not roles or members.wait(members.protected, REVIVE_S_MAX) is None:
        say("these hosts do not become protected any more; making new ones")
        down()
        bring_up(disk_guest)


@contextlib.contextmanager
def program(netns: str, module: str, log: Path, *options: str) -> Iterator[subprocess.Popen]:
    """Run one of our programs in a network namespace, and end it if it still runs afterwards."""
    with open(log, "w") as file:
        process = subprocess.Popen(
            ["ip", "netns", "exec", netns, sys.executable, "-m", module, *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def end(process: subprocess.Popen, seconds: float, log: Path) -> str | None:
    """Ask it to end; why it did not end well, or None."""
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"did not end within {seconds:.0f} s"
    return f"ended with status {code}: {log.read_text()[-500:]}" if code else None


def wait_warm(log: Path) -> None:
    limit = time.monotonic() + WARM_S_MAX
    while time.monotonic() < limit:
        lines = log.read_text().split()
        if lines and lines[-1].isdigit() and int(lines[-1]) >= WARM_ACKS:
            return
        time.sleep(0.1)
    raise SystemExit(f"chaos: the clients got no {WARM_ACKS} answers in {WARM_S_MAX:.0f} s before the fault; see {log}")


class Play:
    """One round. Its files are in ``folder`` and stay there if the round failed."""

    def __init__(self, number: int, fault: str, role: str, disk_guest: bool = False) -> None:
        self.audit = "audit-disks" if disk_guest else "audit"
        self.number, self.fault, self.role = number, fault, role
        self.folder = CHAOS / f"round-{number:03d}"
        self.lost: list[str] = []
        self.violations: list[str] = []
        self.details: dict = {}
        self.began, self.began_real = time.monotonic(), time.time()

    def round(self) -> Round:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        scene, protected = self._act()
        outage = self._judge_clients(scene)
        self._judge_voices(scene)
        if protected:
            self._judge_memory()
        self.details.update(events=scene.events, notes=scene.notes, acked=self.details.get("acked", 0))
        out = Round(
            self.number,
            self.fault,
            self.role,
            outage,
            self.lost,
            self.violations,
            protected,
            round(time.monotonic() - self.began, 1),
            self.details,
        )
        self._keep(out)
        return out

    # ---- act ----------------------------------------------------------------------------------------
    def _act(self) -> tuple[Scene, bool]:
        """Load and fault; (what was done, protected again in time)."""
        load_log, sniff_log = self.folder / "load.log", self.folder / "voices.log"
        mac = json.loads((Host("primary").root / f"etc/plover/{members.VM}.json").read_text())["guest_mac"]
        run = f"{int(self.began_real)}r{self.number}"
        with (
            program(NETNS, "lab.chaos.voices", sniff_log, "--mac", mac, "--out", f"{self.folder}/voices.json") as sniffer,
            program(CLIENT, "lab.chaos.load", load_log, "--run", run, "--out", f"{self.folder}/history.json") as load,
        ):
            wait_warm(load_log)
            scene = self._cast()
            try:
                FAULTS[self.fault].play(scene, scene.roles[self.role])
            except NotInTime as late:
                scene.notes.append(str(late))
            finally:
                heal_all()
            protected = self._wait_protected()
            self.load_ended_at = time.monotonic()
            why = end(load, LOAD_END_S_MAX if protected else LOAD_END_UNPROTECTED_S_MAX, load_log)
            if why:
                self.lost.append(f"what the clients were told is not known; they {why}")
            why = end(sniffer, 10.0, sniff_log)
            if why:
                self.violations.append(f"what went over the wire is not known; the sniffer {why}")
        return scene, protected

    def _cast(self) -> Scene:
        """The members' roles, looked up at the last moment, while protected: a busy machine has failovers of its own."""
        before = members.wait(members.protected, PROTECTED_S_MAX, 0.05)
        if before is None:
            raise SystemExit(f"chaos: not protected before round {self.number}: {members.statuses()}")
        scene = Scene(members.roles(before))
        self.details.update(target=scene.roles[self.role], view=before["witness"]["view"])
        return scene

    def _wait_protected(self) -> bool:
        """Protected, and still so a moment later: a fault may be noticed late."""
        healed = time.monotonic()
        while (left := healed + PROTECTED_S_MAX - time.monotonic()) > 0:
            if members.wait(members.protected, left) is None:
                break
            at = time.monotonic()
            time.sleep(SETTLE_S)
            if members.protected(members.statuses()):
                self.details["protected_after_s"] = round(at - healed, 1)
                return True
        self.details["unprotected"] = {host: s.get("sentence", "no answer") for host, s in members.statuses().items()}
        return False

    # ---- judge --------------------------------------------------------------------------------------
    def _judge_clients(self, scene: Scene) -> int:
        """The outage in ms, of clients that keep their connection, from the fault until the end of the load."""
        path = self.folder / "history.json"
        if not path.exists():
            return round(1000 * (self.load_ended_at - scene.injected_at))
        seen = history.load(path)
        self.lost += history.losses(seen)
        self.details.update(
            outage_fresh_ms=history.gap_ms(seen.fresh_acks, scene.injected_at, self.load_ended_at),
            wait_ms_max=seen.wait_ms_max,
            acked=seen.acked,
            unknown=seen.unknown,
            broken=seen.broken,
        )
        return history.gap_ms(seen.acks, scene.injected_at, self.load_ended_at)

    def _judge_voices(self, scene: Scene) -> None:
        path = self.folder / "voices.json"
        if not path.exists():
            return
        frames, dropped = voices.load(path)
        terms = members.terms()
        self.violations += voices.violations(frames, terms)
        for host, at in scene.came_back:
            self.violations += voices.spoke_between(frames, terms, host, at, time.time())
        if dropped:
            self.violations.append(f"the sniffer missed {dropped} frames: one voice is not proven")
        if not frames:
            self.violations.append("the sniffer saw no frame at all: one voice is not proven")
        self.details["frames"] = Counter(frame.host for frame in frames)
        self.details.update(voices.first_after(frames, terms, scene.injected_real))
        self.details["views"] = [[t.view, t.host] for t in sorted(terms) if t.at > self.began_real]

    def _judge_memory(self) -> None:
        limit, reply = time.monotonic() + AUDIT_S_MAX, {}
        while time.monotonic() < limit and not reply.get("ok"):
            roles = members.roles(members.statuses())
            reply = members.ask(roles["leader"], self.audit, members.OPERATION_TIMEOUT_S) if roles else {}
            time.sleep(0.0 if reply.get("ok") else 0.5)
        if not reply.get("ok"):
            self.violations.append(f"no memory audit: {reply.get('error', 'no leader')}")
        elif reply.get("disk_blocks_mismatching"):
            self.violations.append(f"audit: {reply['disk_blocks_mismatching']} disk blocks differ")
        elif reply["mismatching"] or reply["untracked"]:
            self.violations.append(
                f"memory audit: {reply['mismatching']} pages differ, {reply['untracked']} had differed without a reported write"
            )
        self.details["audit"] = {k: reply.get(k) for k in ("mismatching", "untracked", "pages", "disk_blocks") if k in reply}

    def _keep(self, done: Round) -> None:
        with open(CHAOS / "rounds.jsonl", "a") as file:
            file.write(json.dumps({**done._asdict(), "good": done.good}) + "\n")
        if done.good and os.environ.get("KEEP_FILES") != "1":
            shutil.rmtree(self.folder)
            return
        for host in HOSTS:
            (self.folder / f"journal-{host}.txt").write_text(members.journal(host, self.began_real))


def line(done: Round, rounds: int) -> str:
    what = (
        "ok"
        if done.good
        else "; ".join(
            [*(f"LOST {x}" for x in done.lost), *(f"VIOLATION {x}" for x in done.violations), *([] if done.protected else ["UNPROTECTED"])]
        )
    )
    after = done.details.get("protected_after_s")
    return (
        f"round {done.number}/{rounds} {done.cell} ({done.details['target']}): {what[:600]}, outage {done.outage_ms} ms"
        + (f", protected {after} s after the heal" if after is not None else "")
        + f", {done.seconds} s"
    )


def play(rounds: int, seed: int, cells: list[tuple[str, str]], disk_guest: bool = False) -> Iterator[Round]:
    """Yields each finished round. Brings the lab up first, and again after a round that it did not survive."""
    shutil.rmtree(CHAOS, ignore_errors=True)
    CHAOS.mkdir(parents=True)
    bring_up(disk_guest)
    for number, (fault, role) in enumerate(plan(rounds, seed, cells), 1):
        done = Play(number, fault, role, disk_guest).round()
        say(line(done, rounds))
        yield done
        if not done.protected and number < rounds:
            revive(disk_guest)
