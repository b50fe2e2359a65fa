# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's own COLO mode in the benchmark: its command lines, its events, its lock. test_bench_services.py runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from plover.config.settings import Config

from bench import colo
from bench.services import syncvm_figures


def config(member: str) -> Config:
    return Config(
        {
            "name": "bench",
            "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
            "member": member,
            "preferred_leader": "primary",
            "guest_mac": "52:54:00:70:6c:01",
            "guest_kernel": "/k",
            "run_dir": "/r",
            "members": {
                m: {"address": f"10.0.0.{n}", "kind": "witness" if m == "witness" else "replica"}
                for n, m in enumerate(("primary", "secondary", "witness"), 1)
            },
            "network_ifup": "/ifup",
            "shm_dir": "/shm",
        }
    )


@pytest.mark.parametrize("member", ["primary", "secondary"])
def test_every_filter_has_its_chardevs(member):
    line = " ".join(colo.words(config(member), True))
    defined = set(re.findall(r"-chardev socket,id=([\w-]+)", line))
    used = set(re.findall(r"(?:chardev|indev|outdev|primary_in|secondary_in)=([\w-]+)", line))
    assert used <= defined and "-netdev tap,id=net0" in line and "stream," not in line
    assert defined - used == ({"compare0", "compare_out"} - used if member == "primary" else set())


def test_only_the_primarys_tap_is_on_the_bridge_and_only_the_secondary_waits():
    primary, secondary = (" ".join(colo.words(config(member), True)) for member in ("primary", "secondary"))
    assert "script=/ifup," in primary and "script=no," in secondary
    assert "-incoming" not in primary and "-incoming tcp:" in secondary


def test_the_memory_is_cleared_page_by_page_or_as_shipped():
    repaired, shipped = (" ".join(colo.words(config("primary"), way)) for way in (True, False))
    sizes = {int(kib) for kib in re.findall(r"(?:-m |size=)(\d+)K", repaired)}
    assert len(sizes) == 1 and sizes.pop() % 256 and "256M" not in repaired
    assert "-m 256M" in shipped and "size=256M" in shipped


def test_a_checkpoint_is_a_stop_and_the_resume_after_it():
    events = [("RESUME", 1.0), ("STOP", 2.0), ("MIGRATION_PASS", 2.1), ("RESUME", 2.25), ("STOP", 4.0), ("RESUME", 4.05), ("STOP", 6.0)]
    checkpoints = colo.checkpoints_of(events)
    assert [(c["number"], c["pause_ms"]) for c in checkpoints] == [(1, 250), (2, 50)]
    figures = syncvm_figures(checkpoints)
    assert figures == {"syncvms": 2, "interval_p50_ms": 1800, "pause_p50_ms": 150, "pause_p99_ms": 250}


def test_the_lock_is_repaired_only_where_it_is_not_held():
    """A wait without the mutex comes back and takes nothing; one with it waits, and comes back with it."""
    program = """
import ctypes
libc = ctypes.CDLL(None)
cond, mutex = (ctypes.create_string_buffer(64) for _ in range(2))
libc.pthread_cond_wait(cond, mutex)
print(libc.pthread_mutex_trylock(mutex), flush=True)  # 0: it was free
libc.alarm(1)
libc.pthread_cond_wait(cond, mutex)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"LD_PRELOAD": str(colo.library())}, timeout=20, capture_output=True, text=True
    )
    assert done.stdout == "0\n" and done.returncode == -signal.SIGALRM  # the second wait lasted
