# SPDX-License-Identifier: GPL-3.0-or-later
"""make soak: clients, switchovers and failovers for MINUTES; build/soak/result.json, samples.jsonl, soak.html. Exit status 1 if a
figure grows faster than its limit (judge.py), or a write was lost."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from ..chaos import runner
from ..chaos.result import Round
from ..hosts import CLIENT, SERVICE_IP, SERVICE_PORT, down
from ..paths import BUILD
from ..up import say
from . import judge
from .page import page
from .sampler import Sampler

SOAK = BUILD / "soak"
# Failovers of three kinds, after which the daemons live on but for the last one.
CELLS = [
    ("switchover", "leader"),
    ("kill-qemu", "leader"),
    ("switchover", "leader"),
    ("isolate", "leader"),
    ("switchover", "leader"),
    ("kill-qemu", "secondary"),
]
POWER_LOSS, POWER_LOSS_EVERY = ("power-loss", "leader"), 12  # rounds
FORGET = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),30); s.sendall(b'FLUSHALL\\r\\n'); s.recv(9)"


def cell(number: int) -> tuple[str, str]:
    return POWER_LOSS if number % POWER_LOSS_EVERY == 0 else CELLS[(number - 1) % len(CELLS)]


def forget() -> None:
    """The clients' keys of the rounds before: guest memory is not what is measured."""
    words = ["ip", "netns", "exec", CLIENT, sys.executable, "-c", FORGET, SERVICE_IP, str(SERVICE_PORT)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, timeout=60)


def play(seconds: float, sampler: Sampler) -> list[tuple[float, Round]]:
    out: list[tuple[float, Round]] = []
    while time.monotonic() - sampler.began < seconds or not out:
        at, number = time.monotonic() - sampler.began, len(out) + 1
        done = runner.Play(number, *cell(number)).round()
        out.append((at, done))
        say(runner.line(done, 0).replace("/0 ", " ", 1))
        if not done.protected:
            break  # the figures of what comes afterwards are of another story
        forget()
    return out


def run(minutes: float) -> dict:
    shutil.rmtree(SOAK, ignore_errors=True)
    SOAK.mkdir(parents=True)
    shutil.rmtree(runner.CHAOS, ignore_errors=True)
    runner.CHAOS.mkdir(parents=True)
    runner.bring_up(disk_guest=False)
    sampler = Sampler()
    sampler.start()
    rounds: list[tuple[float, Round]] = []
    try:
        rounds = play(60 * minutes, sampler)
    finally:
        samples = sampler.end()
        seconds = time.monotonic() - sampler.began
        out = judge.result(samples, [done._asdict() for _at, done in rounds], seconds)
        (SOAK / "samples.jsonl").write_text("".join(json.dumps(sample._asdict()) + "\n" for sample in samples))
        (SOAK / "result.json").write_text(json.dumps(out) + "\n")
        (SOAK / "soak.html").write_text(page(samples, [(at, done.cell) for at, done in rounds], judge.table(out)))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    if not options.minutes > 0:
        parser.error("--minutes (MINUTES=) must be more than 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: asked to end"))
    try:
        out = run(options.minutes)
    finally:
        if os.environ.get("KEEP") != "1":
            say("taking the hosts down (KEEP=1 keeps them)")
            down()
    print(f"\n{judge.table(out)}\n(build/soak/soak.html, result.json, samples.jsonl; files of bad rounds: build/chaos)")
    return 0 if judge.good(out) else 1


if __name__ == "__main__":
    sys.exit(main())
