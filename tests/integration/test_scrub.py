# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest memory changes on one host, and no tracker sees it. The scrub finds it on two real QEMUs."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

import pytest
from harness import connect

PAGES, PAGE_BYTES, CHANGED = 65_536, 4096, 3
SETTINGS = {"scrub_interval_s": 4, "syncvm_interval_ms_max": 100}


def change(group, member: str, other: str) -> list[int]:
    """Write into pages that are empty on both hosts, by a mapping that no tracker watches. Returns their numbers."""
    files = [open(Path(group.memory_folder(m)) / "demo.ram", "r+b") for m in (member, other)]
    here, there = (mmap.mmap(file.fileno(), 0) for file in files)
    try:
        empty = (
            n for n in range(PAGES // 2, PAGES) if not any(m[n * PAGE_BYTES : (n + 1) * PAGE_BYTES].strip(b"\0") for m in (here, there))
        )
        pages = [next(empty) for _page in range(CHANGED)]
        for page in pages:
            here[page * PAGE_BYTES : page * PAGE_BYTES + 8] = b"changed!"
        return pages
    finally:
        for each in (here, there, *files):
            each.close()


def found(group, leader: str, view: int, seconds: float = 40.0) -> dict | None:
    """The leader's status once the scrub has found as many pages; None if a later view began: what it fills copies what was changed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = group.status(leader)
        if status and status["view"] != view:
            return None
        if status and status["scrub"]["untracked_pages"] >= CHANGED:
            return status
        time.sleep(0.05)
    raise AssertionError(f"the scrub found nothing: {group.story()}")


def changed_and_found(group, client, side: str) -> tuple[str, list[int], dict]:
    """(who leads, the changed pages, its status), in one view. A busy machine may fail over in between: then once more."""
    for _try in range(3):
        leader = group.settled()
        follower = "secondary" if leader == "primary" else "primary"
        view = group.status(leader)["view"]
        pages = change(group, *((leader, follower) if side == "leader" else (follower, leader)))
        for n in range(20):
            assert client.ask("SET", f"k{n}", str(n)) == b"+OK"
        if status := found(group, leader, view):
            return leader, pages, status
    raise AssertionError(f"no view lasted for two rounds of the scrub: {group.story()}")


@pytest.mark.parametrize("side", ["secondary", "leader"])
def test_memory_that_changed_unseen_is_found_mended_and_told(new_group, side):
    group = new_group(**SETTINGS)
    group.start()
    group.wait("primary", service="protected")
    client = connect()
    leader, pages, status = changed_and_found(group, client, side)
    assert status["scrub"]["untracked_pages"] == CHANGED, status["scrub"]
    assert status["service"] == "protected" and f"but {CHANGED} pages had differed unreported" in status["sentence"]
    told = group.log(leader)
    assert all(f"{page}" in told for page in pages) and "no write to them was reported" in told
    report = group.audit()
    assert (report["mismatching"], report["untracked"]) == (0, 0), report
    assert "but" not in group.status(leader)["sentence"]
    group.power_off(leader)
    assert client.ask("GET", "k19") == b"19"


def test_nothing_is_found_where_nothing_changed_unseen(new_group):
    """While Redis works and both VMs write. So what is found is worth an alarm."""
    group = new_group(**SETTINGS)
    group.start()
    group.wait("primary", service="protected")
    client, end, n = connect(), time.monotonic() + 60, 0
    leader = group.settled()
    while (scrub := group.status(leader)["scrub"])["rounds"] < 2:
        assert time.monotonic() < end, group.story()
        n += 1
        assert client.ask("SET", f"k{n % 50}", str(n) * 200) == b"+OK"
    assert scrub["untracked_pages"] == 0 and scrub["pages"] >= 2 * PAGES, scrub
