# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk guest under plain QEMU, without Plover: what the tests with disks stand on.

A power loss in mid-load, twice: what PostgreSQL acknowledged is there, and the disk is whole.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from harness import ROOT, sh

from lab.disk_check import check_file_system, check_image, take_out
from lab.disk_guest import CMDLINE, build
from lab.paths import SUFFIX

NETNS, TAP = f"plover-disk{SUFFIX}", "pdisk0"
GUEST_IP, CLIENT_IP = "192.168.80.50", "192.168.80.1"
BOOT_S, LOAD_S = 60.0, 10.0
CLIENT = [sys.executable, "-m", "lab.pg_client", "--host", GUEST_IP, "--answer-seconds", "5"]
ASK_REDIS = """import socket, sys
redis = socket.create_connection((sys.argv[1], 6379), 10)
redis.sendall(sys.argv[2].encode() + b"\\r\\n")
print(redis.recv(100).decode().split()[-1])"""
# A row that its index does not know, and money from nowhere.
TAMPER = """import sys
from lab.pg_client import Server
run = Server(sys.argv[1], 20).connect().run
ready = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'history_id'::regclass"
run(ready.format("false"))
run("INSERT INTO history VALUES ('stray', 1, 1, 1, 1, now())")
run(ready.format("true"))"""


def in_netns(*command: str) -> list[str]:
    return ["ip", "netns", "exec", NETNS, *command]


def python(script: str, *arguments: str) -> str:
    """What a script in the client's place prints."""
    return subprocess.run(
        in_netns(sys.executable, "-c", script, *arguments), cwd=ROOT, check=True, timeout=60, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


class Guest:
    """One QEMU after the other on the same disk."""

    def __init__(self, folder: Path) -> None:
        self.image = build()
        self.disk, self.console = self.image.copy_to(folder / "disk.img"), folder / "console.log"
        self.qemu: subprocess.Popen | None = None

    def command(self) -> list[str]:
        return in_netns(
            "qemu-system-x86_64",
            "-machine",
            "pc,accel=tcg",
            "-cpu",
            "qemu64",
            "-m",
            "256M",
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-kernel",
            str(self.image.kernel),
            "-initrd",
            str(self.image.initrd),
            "-append",
            CMDLINE.format(ip=GUEST_IP, gw=CLIENT_IP) + " plover.sqlite",
            "-drive",
            f"file={self.disk},if=none,id=d0,format=raw,cache=writeback",
            "-device",
            "virtio-blk-pci,drive=d0",
            "-netdev",
            f"tap,id=n0,ifname={TAP},script=no,downscript=no",
            "-device",
            "virtio-net-pci,netdev=n0",
        )

    def boot(self) -> None:
        began = time.monotonic()
        with open(self.console, "w") as console:
            self.qemu = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        wait(lambda: "plover guest ready" in self.console.read_text(), BOOT_S, self.console)
        print(f"booted in {time.monotonic() - began:.1f} s")

    def power_off(self) -> None:
        if self.qemu:
            self.qemu.kill()
            self.qemu.wait()


def wait(true, seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.1)


def rows(disk: Path) -> int:
    """How many rows SQLite has on the disk of a dead guest."""
    with tempfile.TemporaryDirectory(dir=disk.parent) as scratch:
        copy = Path(shutil.copy(disk, scratch))
        assert check_file_system(copy) == []
        with closing(sqlite3.connect(take_out(copy, Path(scratch)))) as database:
            return database.execute("SELECT count(*) FROM rows").fetchone()[0]


@pytest.fixture
def guest(tmp_path):
    subprocess.run(["ip", "netns", "del", NETNS], capture_output=True, check=False)
    sh("ip", "netns", "add", NETNS)
    for words in ("link set lo up", f"tuntap add {TAP} mode tap", f"addr add {CLIENT_IP}/24 dev {TAP}", f"link set {TAP} up"):
        sh("ip", "-n", NETNS, *words.split())
    made = Guest(tmp_path)
    yield made
    made.power_off()
    sh("ip", "netns", "del", NETNS)


@pytest.fixture
def start_load(tmp_path):
    """A function that starts the clients: (process, function that tells how many commits were acknowledged)."""
    log, loads = tmp_path / "client.log", []

    def start(out: Path):
        with open(log, "w") as file:
            loads.append(
                subprocess.Popen(
                    in_netns(*CLIENT, "--init", "--out", str(out)), cwd=ROOT, stdout=file, stderr=file, stdin=subprocess.DEVNULL
                )
            )

        def acked() -> int:
            lines = log.read_text().splitlines()
            return json.loads(lines[-1])["acked"] if lines and lines[-1].endswith("}") else 0

        return loads[-1], acked

    yield start
    for load in loads:
        load.kill()
        load.wait()


def test_a_power_loss_in_mid_load_loses_nothing(guest, start_load, tmp_path):
    guest.boot()
    load, acked = start_load(tmp_path / "clients.json")
    wait(lambda: acked() > 0, 60, tmp_path / "client.log")
    assert python(ASK_REDIS, GUEST_IP, "SET k value") == "+OK"
    time.sleep(LOAD_S)
    guest.power_off()
    time.sleep(1.5)  # the clients tell their count each second
    before = acked()
    assert check_image(guest.disk) == []
    first_rows = rows(guest.disk)
    guest.boot()
    assert python(ASK_REDIS, GUEST_IP, "GET k") == "value"
    wait(lambda: acked() > before + 20, 60, tmp_path / "client.log")
    load.terminate()
    assert load.wait(120) == 0, (tmp_path / "client.log").read_text()[-3000:]
    guest.power_off()
    result = json.loads((tmp_path / "clients.json").read_text())
    print(result)
    assert result["problems"] == [] and result["lost"] == 0 and result["database_checks_ok"], result
    assert result["acked_commits"] > before + 20 and result["outage_ms"] > 1500, result
    assert result["connections_broken"] >= 6 and result["unknown"] <= 6, result
    assert check_image(guest.disk) == []
    assert rows(guest.disk) > first_rows


def test_the_checks_notice_what_is_wrong(guest, tmp_path):
    def load(*options: str) -> dict:
        out = tmp_path / "out.json"
        subprocess.run(in_netns(*CLIENT, *options, "--seconds", "2", "--out", str(out)), cwd=ROOT, check=True, timeout=120)
        return json.loads(out.read_text())

    guest.boot()
    assert load("--init")["problems"] == []
    python(TAMPER, GUEST_IP)
    result = load()
    assert not result["database_checks_ok"] and result["lost"] == 0 and result["acked_commits"] > 0
    assert [problem.split(":")[0] for problem in result["problems"]] == ["amcheck, index history_id", "sums differ"]


def test_the_image_in_the_cache_stays_as_it_was(tmp_path):
    image = build()
    copy = image.copy_to(tmp_path / "disk.img")
    assert check_image(copy) == []
    with pytest.raises(FileExistsError):
        image.copy_to(copy)
    assert subprocess.run(["cmp", str(image.image), str(copy)], check=False).returncode == 0
