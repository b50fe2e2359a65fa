# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays the attacks one after the other, each under the clients' load, and judges what it has cost."""

from __future__ import annotations

import json
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from .. import deploy
from ..__main__ import execute
from ..chaos import members
from ..chaos.runner import end, program
from ..demo import save_journals
from ..hosts import CLIENT, HOSTS
from ..paths import BUILD
from ..up import say
from . import client, group, guest, local_user, on_path, outsider, qemu_user, stage, witness
from .outcome import Attack, Outcome, Result, failed, judge
from .scene import NotPossible, Scene

ATTACK = BUILD / "attack"
ATTACKS: dict[str, Attack] = {}
for attacker in (outsider, client, guest, witness, on_path, local_user, qemu_user):
    ATTACKS.update(attacker.ATTACKS)
WARM_S_MAX, LOAD_END_S_MAX = 60.0, 60.0
CLIENTS, RATE = "4", "20"
AFTERWARDS_S = 1.0  # the load goes on for so long: harm may show late


def chosen(name: str) -> list[Attack]:
    """One attack, or those of one attacker, or all. Raises SystemExit with what there is."""
    found = [attack for attack in ATTACKS.values() if name in ("", attack.name, attack.attacker, attack.attacker.replace("_", "-"))]
    if not found:
        raise SystemExit(f"attack: no attack {name}; there are\n" + "\n".join(f"  {a.name}: {a.doc}" for a in ATTACKS.values()))
    return found


def play(attacks: list[Attack]) -> Iterator[Result]:
    """Yields each result. Brings the lab up first. If the group does not recover, the attacks left over are not run."""
    ATTACK.mkdir(parents=True, exist_ok=True)
    stage.bring_up()
    before = None
    for number, attack in enumerate(attacks, 1):
        before = before or _ready()
        if before is None:
            yield failed(attack, f"not protected before it: {group.statuses_in_a_line()}")
            continue
        result, before = one(attack, before)
        say(
            f"{number}/{len(attacks)} {result.name}: {'SUCCEEDED' if result.succeeded else result.error or 'withstood'}, {result.seconds} s"
        )
        yield result
    save_journals(ATTACK)


def _ready() -> group.Snapshot | None:
    """Protected; if an attack has left it otherwise, what an operator would try: start the members anew."""
    stage.set_places()
    before = group.snapshot(30.0)
    if before is None:
        say("not protected: the members are started anew")
        for host in HOSTS:
            execute(host, "systemctl restart 'plover-witness@*' 'plover-replica@*'")
        before = group.snapshot()
    return before


def one(attack: Attack, before: group.Snapshot) -> tuple[Result, group.Snapshot | None]:
    """One attack under load, and the group after it; None if it is not protected any more."""
    log, out = ATTACK / f"{attack.name}.log", ATTACK / "clients.json"
    out.unlink(missing_ok=True)
    began, error, outcome = time.monotonic(), "", Outcome(False, "")
    with program(CLIENT, "lab.client", log, "--clients", CLIENTS, "--rate", RATE, "--out", str(out)) as load:
        _wait_warm(log, load)
        try:
            outcome = attack.does(Scene(before))
        except (NotPossible, OSError, ValueError, KeyError, IndexError, subprocess.SubprocessError) as problem:
            error = f"{type(problem).__name__}: {problem}"
            log.with_suffix(".traceback").write_text(traceback.format_exc())
        time.sleep(AFTERWARDS_S)
        after = group.snapshot()
        clients = group.clients(out, end(load, LOAD_END_S_MAX, log))
    harm = group.harms(before, after, clients, attack.disturbs)
    seconds = time.monotonic() - began
    return (failed(attack, error, seconds, harm) if error else judge(attack, outcome, harm, seconds)), after


def _wait_warm(log: Path, load: subprocess.Popen) -> None:
    """The clients have answers."""
    limit = time.monotonic() + WARM_S_MAX
    while load.poll() is None and time.monotonic() < limit:
        lines = log.read_text().splitlines()
        if lines and lines[-1].startswith("{") and json.loads(lines[-1])["acked"] > 0:
            return
        time.sleep(0.1)
    raise SystemExit(f"attack: the clients got no answer in {WARM_S_MAX:.0f} s; see {log}; {members.statuses()}; {deploy.INVENTORY}")
