# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-disk-link`: a secondary's disk written directly by NBD, and through the members' link, in turn in one run.

Two hosts of one machine (hosts.py). `qemu-nbd` is the secondary's export, of a file in memory, so the path is all that is
measured; `qemu-img bench` is the leader's QEMU. The members between them are the runtime's own links and streams
(disk_link_member.py), once without and once with TLS. Beside the disk, heartbeats go over the members' event loops; their round trips are
measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from lab.paths import BUILD, ROOT
from lab.pki import Authority

from . import hosts, inside
from .load import BenchError
from .machine import cpu_model

WAYS = ("direct", "carried", "tls")  # NBD by TCP; by the members' link, without TLS; with TLS, as is the default
LINKS_MBIT_PER_S = (0, 10_000, 1_000)  # 0: as fast as the machine
IMAGE_MIB = 256
PORT, DISK_PORT = 7420, 7421
CLUSTER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
SECRET = "0123456789abcdef" * 4
RUN_S_MAX = 120.0
RATIO_WANTED = 0.8
Run = dict[str, Any]


class Load(NamedTuple):
    """``depth`` requests of ``size`` bytes are under way at a time."""

    size: int
    depth: int
    count: int

    @property
    def name(self) -> str:
        size = f"{self.size >> 20} MiB" if self.size >= 1 << 20 else f"{self.size >> 10} KiB"
        return f"{size} x {self.depth}"


LOADS = (Load(1 << 20, 4, 2000), Load(64 << 10, 16, 16_000), Load(4096, 16, 40_000), Load(4096, 1, 8000))


def main() -> int:
    options = parse(sys.argv[1:])
    if (status := inside.run("bench.disk_link", lambda: None)) is not None:
        return status
    hosts.make()
    try:
        runs = measure(options)
    except BenchError as error:
        print(f"bench-disk-link: {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"cores": os.cpu_count(), "cpu": cpu_model(), "ratios": ratios(runs), "runs": runs}
    (options.out / "disk_link.json").write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(table(result)))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.disk_link", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", type=float, default=1.0, help="this part of each load's requests")
    parser.add_argument("--links", type=lambda text: [int(each) for each in text.split(",")], default=list(LINKS_MBIT_PER_S))
    parser.add_argument("--out", type=Path, default=BUILD / "bench")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not 0 < options.part <= 1 or min(options.links) < 0:
        parser.error("rounds must be positive, part from 0 to 1, links Mbit/s or 0")
    return options


# ---- measuring ---------------------------------------------------------------------------------------------------
def in_host(host: str, *words: str) -> list[str]:
    return ["ip", "netns", "exec", host, *words]


class Members:
    """Both members' links, and in host ``secondary`` a server of the disk."""

    def __init__(self, folder: Path, where: list[str], offers: bool, **more: str) -> None:
        self.export, self.socket = folder / "export.sock", folder / "disks.sock"
        self._secret = folder / "secret"
        self._secret.write_text(SECRET)
        self._secret.chmod(0o600)
        self._processes = [subprocess.Popen(server(folder, *where))]
        self._folder, self._offers, self._more = folder, offers, more
        self._members = {name: self._member(name, path) for name, path in (("secondary", self.export), ("primary", self.socket))}
        self._processes += self._members.values()

    def _member(self, name: str, socket: Path) -> subprocess.Popen:
        values = {**settings(name, self._secret), "tls_folder": str(self._folder / f"{name}.tls"), **self._more}
        spec = {"settings": values, "socket": str(socket), "offers": self._offers}
        return subprocess.Popen(
            in_host(name, sys.executable, "-m", "bench.disk_link_member", json.dumps(spec)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PLOVER_NATIVE_DIR": str(ROOT / "native" / "build")},
        )

    def beats(self) -> Run:
        """Round trips of heartbeats since the last call, and CPU seconds of both members since their start."""
        said = {}
        for name, process in self._members.items():
            process.stdin.write("\n")
            process.stdin.flush()
            said[name] = json.loads(process.stdout.readline())
        return {"round_trips_ms": said["primary"]["round_trips_ms"], "cpu_s": sum(each["cpu_s"] for each in said.values())}

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


class Direct(Members):
    """QEMU's client and server by TCP, as before there were streams. The members carry heartbeats only."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ["-b", hosts.HOSTS["secondary"], "-p", str(DISK_PORT)], offers=False, link_security="none")
        self.url = f"nbd://{hosts.HOSTS['secondary']}:{DISK_PORT}/disk"

    def ready(self) -> bool:
        return bool(hosts.sh(f"ip netns exec secondary ss -Htln sport = :{DISK_PORT}"))


class Carried(Members):
    security = "none"

    def __init__(self, folder: Path) -> None:
        authority = Authority(CLUSTER)
        for name in ("primary", "secondary"):
            authority.give(folder / f"{name}.tls", name)
        super().__init__(folder, ["-k", str(folder / "export.sock")], offers=True, link_security=self.security)
        self.url = f"nbd+unix:///disk?socket={self.socket}"

    def ready(self) -> bool:
        return self.socket.exists()


class Encrypted(Carried):
    security = "tls"


SYSTEMS = dict(zip(WAYS, (Direct, Carried, Encrypted)))


def server(folder: Path, *where: str) -> list[str]:
    image = folder / "disk.img"
    image.write_bytes(bytes(IMAGE_MIB << 20))
    return in_host("secondary", "qemu-nbd", "-t", "-e", "4", "-x", "disk", "-f", "raw", *where, str(image))


def settings(member: str, secret: Path) -> Run:
    members = {name: {"address": address, "kind": "witness" if name == "witness" else "replica"} for name, address in hosts.HOSTS.items()}
    return {
        "name": "bench",
        "cluster_id": CLUSTER,
        "member": member,
        "members": members,
        "port": PORT,
        "preferred_leader": "primary",
        "guest_kernel": "/none",
        "guest_mac": "52:54:00:70:6c:01",
        "secret_file": str(secret),
    }


def measure(options: argparse.Namespace) -> list[Run]:
    runs = []
    for mbit_per_s in options.links:
        if mbit_per_s:
            hosts.shape(mbit_per_s)
        for number in range(options.rounds):
            for way in WAYS:
                with tempfile.TemporaryDirectory(prefix="plover-bench-", dir="/dev/shm") as folder:
                    system = SYSTEMS[way](Path(folder))
                    try:
                        for load in LOADS:
                            figures = one_load(system, load._replace(count=max(1, int(load.count * options.part))))
                            runs.append({"way": way, "mbit_per_s": mbit_per_s, "round": number, "load": load.name, **figures})
                    finally:
                        system.stop()
    return runs


def one_load(system: Direct | Carried, load: Load) -> Run:
    wait_until(system.ready, "the disk's server is not ready")
    system.beats()
    time.sleep(0.5)  # heartbeats of an idle disk
    before = system.beats()
    how = ["-s", str(load.size), "-d", str(load.depth), "-c", str(load.count)]
    words = ["qemu-img", "bench", "-f", "raw", "-w", "-t", "none", *how, system.url]
    try:
        done = subprocess.run(in_host("primary", *words), capture_output=True, text=True, timeout=RUN_S_MAX)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(words)} took over {RUN_S_MAX:.0f} s") from None
    found = re.search(r"Run completed in ([0-9.]+) seconds", done.stdout)
    if done.returncode or not found:
        raise BenchError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    after, seconds = system.beats(), float(found[1])
    return {
        "mib_per_s": load.size * load.count / seconds / (1 << 20),
        "requests_per_s": load.count / seconds,
        "idle_beats_ms": spread(before["round_trips_ms"]),
        "beats_ms": spread(after["round_trips_ms"]),
        "members_cpu_s": after["cpu_s"] - before["cpu_s"],
    }


def wait_until(condition: Any, why: str) -> None:
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            raise BenchError(why)
        time.sleep(0.01)


def spread(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the longest."""
    if not values:
        return {}
    ordered = sorted(values)
    return {"p50": statistics.median(ordered), "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], "max": ordered[-1]}


# ---- figures -------------------------------------------------------------------------------------------------------
def ratios(runs: list[Run]) -> list[Run]:
    """One row for each link and load: medians of all rounds, carried by direct, and carried with TLS by direct."""
    out = []
    for mbit_per_s, load in dict.fromkeys((run["mbit_per_s"], run["load"]) for run in runs):
        mine = [run for run in runs if (run["mbit_per_s"], run["load"]) == (mbit_per_s, load)]
        speed = {way: statistics.median(run["mib_per_s"] for run in mine if run["way"] == way) for way in WAYS}
        out.append(
            {
                "mbit_per_s": mbit_per_s,
                "load": load,
                **{f"{way}_mib_per_s": round(speed[way], 2) for way in WAYS},
                "ratio": round(speed["carried"] / speed["direct"], 3),
                "tls_ratio": round(speed["tls"] / speed["direct"], 3),
                **{f"{way}_beat_ms": worst([run["beats_ms"] for run in mine if run["way"] == way]) for way in WAYS},
                "idle_beat_ms": worst([run["idle_beats_ms"] for run in mine]),
            }
        )
    return out


def worst(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Median of the medians, and the worst 99th percentile and longest of all rounds; empty if there was no heartbeat."""
    rounds = [each for each in rounds if each]
    if not rounds:
        return {}
    return {
        "p50": round(statistics.median(each["p50"] for each in rounds), 2),
        **{key: round(max(each[key] for each in rounds), 2) for key in ("p99", "max")},
    }


def table(result: Run) -> list[str]:
    out = [
        f"A secondary's disk by NBD, on {result['cores']} cores ({result['cpu']})",
        f"{'link':>11} {'writes':>11} {'direct':>12} {'carried':>12} {'ratio':>5}  {'with TLS':>12} {'ratio':>5}   "
        "heartbeats p50 / p99 / max: direct, carried, with TLS, idle",
    ]
    for row in result["ratios"]:
        link = f"{row['mbit_per_s']} Mbit/s" if row["mbit_per_s"] else "unlimited"
        spreads = (row[f"{each}_beat_ms"] for each in (*WAYS, "idle"))
        beats = ", ".join(" / ".join(f"{value:.1f}" for value in spread.values()) or "none" for spread in spreads)
        out.append(
            f"{link:>11} {row['load']:>11} {row['direct_mib_per_s']:>6.1f} MiB/s {row['carried_mib_per_s']:>6.1f} MiB/s "
            f"{mark(row['ratio'])} {row['tls_mib_per_s']:>6.1f} MiB/s {mark(row['tls_ratio'])}  {beats} ms"
        )
    return out


def mark(ratio: float) -> str:
    return f"{ratio:>5.2f}{' ' if ratio >= RATIO_WANTED else '!'}"


if __name__ == "__main__":
    sys.exit(main())
