# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-input`: the way in (TAP, sequencer, log, VM's socket) and the way out (VM's socket, guard, TAP), no guest.

Three real daemons run on three hosts of one machine (hosts.py), protected, with real TAPs and sockets. The measuring point
takes QEMU's place at the end of the VM's socket (input_driver.py, input_replica.py). The baseline is the same TAP and socket
with nothing in between (input_bare.py); everything above it is the runtime's cost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.paths import BUILD, ROOT

from . import guests, hosts, inside
from .groups import IFUP, Group
from .hosts import TAP
from .input_driver import INPUT, OUTPUT, Driver, Load
from .input_figures import added_us, condensed, table, vs_bare
from .load import BenchError
from .machine import busy_s, cpu_model

SYSTEMS = ("bare", "plover")
SIZES = (64, 1500)
WINDOW, PACES_PER_S, PROFILED_PER_S = 256, (0, 1_000, 10_000, 50_000), (0, 10_000)  # 0: as fast as it goes
WARMUP_PART, READY_S = 0.2, 20.0
# No time-out of a machine that is shared ends the run. The frames are of no protocol that a strict filter lets pass.
SETTINGS = {"guest_memory_mib": 32, "failover_budget_ms": 10_000, "guest_spoof_check": "mac"}
Run = dict[str, Any]


def main() -> int:
    options = parse(sys.argv[1:])
    if (status := inside.run("bench.input_path", lambda: guests.guest("memory"))) is not None:
        return status
    hosts.make()
    try:
        runs, profiles = measure(options)
    except BenchError as error:
        print(f"bench-input: {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    result = {
        "cores": os.cpu_count(),
        "cpu": cpu_model(),
        "load_average": os.getloadavg(),
        "added_us": added_us(runs),
        "vs_bare": vs_bare(runs),
        "runs": runs,
        "profiles": profiles,
    }
    (options.out / "input.json").write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(table(result)))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.input_path", description=__doc__.splitlines()[0])
    parser.add_argument("--systems", type=lambda text: text.split(","), default=list(SYSTEMS))
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of one load, after a warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=BUILD / "bench")
    options = parser.parse_args(arguments)
    if set(options.systems) - set(SYSTEMS) or options.seconds <= 0 or options.rounds < 1:
        parser.error(f"systems are {', '.join(SYSTEMS)}; seconds and rounds must be positive")
    return options


# ---- measuring ---------------------------------------------------------------------------------------------------
class Daemons(Group):
    """Three daemons, the replicas' with a socket for a VM."""

    def __init__(self, folder: Path) -> None:
        super().__init__("plover", folder, 1, guests.guest("memory"), folder, SETTINGS, "bench.input_replica")

    def _start_protected(self) -> None:
        self.driver = Driver(self.folder)
        super()._start_protected()

    def _wait_for_guest(self) -> None:
        self._wait(lambda: self.driver.connected() == 2, "the daemons do not connect to their VMs")

    def counts(self) -> tuple[int, int]:
        """(entries in the log, syncvms), ever."""
        status = self.ask("status")
        return status["log_index"], status["syncvms"]

    def profile(self, load: Load) -> dict[str, Any]:
        pid, path = self._processes[0].pid, self.folder / "primary/run/bench/profile"
        os.kill(pid, signal.SIGUSR1)
        passed = self.driver.run(load)
        os.kill(pid, signal.SIGUSR2)
        self._wait(path.exists, "the daemon wrote no profile")
        rows = json.loads(path.read_text())
        path.unlink()
        return condensed(rows, passed.frames)

    def stop(self) -> None:
        super().stop()
        if hasattr(self, "driver"):
            self.driver.close()


class Bare:
    """One process between the TAP and the VM's socket."""

    def __init__(self, folder: Path) -> None:
        (folder / "primary").mkdir(parents=True)
        for name in ("ifup", "ifdown"):
            script = folder / "primary" / name
            script.write_text(IFUP)
            script.chmod(0o755)
        self.driver = Driver(folder)
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", "primary", sys.executable, "-m", "bench.input_bare", str(folder / "primary"), TAP], cwd=ROOT
        )
        end = time.monotonic() + READY_S
        while not self.driver.connected():
            if time.monotonic() > end or self._process.poll() is not None:
                self.stop()
                raise BenchError("the bare process does not connect")
            time.sleep(0.05)

    def counts(self) -> tuple[int, int]:
        return 0, 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self.driver.close()


def measure(options: argparse.Namespace) -> tuple[list[Run], dict[str, Any]]:
    runs: list[Run] = []
    profiles: dict[str, Any] = {}
    loads = [Load(way, size, WINDOW, per_s, options.seconds) for way in (INPUT, OUTPUT) for size in SIZES for per_s in PACES_PER_S]
    for number in range(options.rounds):
        for name in options.systems:
            with tempfile.TemporaryDirectory(prefix="plover-bench-", dir="/dev/shm") as folder:
                system = Bare(Path(folder)) if name == "bare" else Daemons(Path(folder))
                try:
                    for load in loads:
                        runs.append({"system": name, "round": number, **load._asdict(), **one_load(system, load)})
                        print(line(runs[-1]), flush=True)
                    if name == "plover" and number == options.rounds - 1:
                        profiles = {profile_name(load): system.profile(load) for load in loads if is_profiled(load)}
                finally:
                    system.stop()
    return runs, profiles


def is_profiled(load: Load) -> bool:
    return load.per_s in PROFILED_PER_S and (not load.per_s or load.frame_bytes == min(SIZES))


def profile_name(load: Load) -> str:
    return f"{load.way} {load.frame_bytes} B" + (f", {load.per_s:,}/s" if load.per_s else "")


def one_load(system: Daemons | Bare, load: Load) -> Run:
    system.driver.run(load._replace(seconds=WARMUP_PART * load.seconds))
    counts, cpu, own, busy, began = system.counts(), hosts.cpu_s(), time.process_time(), busy_s(), time.monotonic()
    passed = system.driver.run(load)
    cpu = {host: round(after - cpu[host], 2) for host, after in hosts.cpu_s().items()}
    own, busy, lasted_s = time.process_time() - own, busy_s() - busy, time.monotonic() - began
    others = max(0.0, busy - own - sum(cpu.values())) / (lasted_s * (os.cpu_count() or 1))
    entries, syncvms = (after - before for after, before in zip(system.counts(), counts))
    batches = entries - syncvms
    out = {
        **passed._asdict(),
        "cpu_s": cpu,
        "driver_cpu_s": round(own, 2),
        "syncvms": syncvms,
        "others_percent": round(100 * others, 1),
        "cpu_us_per_frame": round(1e6 * cpu["primary"] / passed.frames, 2),
    }
    if load.way == INPUT and batches > 0:
        out |= {
            "batches": batches,
            "frames_per_batch": round(passed.frames / batches, 2),
            "cpu_us_per_batch": round(1e6 * cpu["primary"] / batches, 1),
        }
    return out


def line(run: Run) -> str:
    pace = f"{run['per_s']:,}/s" if run["per_s"] else "as fast as it goes"
    return (
        f"round {run['round'] + 1}: {run['system']:7} {run['way']:7} {run['frame_bytes']:5} B, {pace:18}: "
        f"{run['frames_per_s']:9,.0f} frames/s  p50 {run['p50_us']:8,.0f}  p99 {run['p99_us']:8,.0f} µs  "
        f"{run['cpu_us_per_frame']:6.2f} µs CPU per frame"
    )


if __name__ == "__main__":
    sys.exit(main())
