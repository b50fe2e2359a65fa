# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk costs: the pause of a syncvm with and without one, and how often what the guest writes is written.

The figures are printed, not judged (`pytest -s`). Each answer waits for a syncvm here, so there are many."""

from __future__ import annotations

import statistics
from pathlib import Path

from harness import connect

WRITES = 60


def written(group, member: str) -> int:
    """Bytes that the member's QEMU has written to files: image and overlays."""
    lines = Path(f"/proc/{group.qemu_pid(member)}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def pauses(group) -> list[float]:
    """One client writes; how long the leader's VM stood still for each syncvm that was seen, in ms."""
    client, out = connect(), {}
    for n in range(WRITES):
        assert client.ask("SET", f"k{n}", "x" * 4000) == b"+OK"
        last = group.status("primary")["last_syncvm"]
        out[last["number"]] = last["pause_ms"]
    return list(out.values())


def told(what: str, values: list[float]) -> None:
    print(f"{what}: {len(values)} syncvms, pause {statistics.median(values):.1f} ms median, {max(values):.1f} ms longest")


def test_what_a_disk_costs(disk_group):
    group = disk_group(output_release="syncvm")
    before = {member: written(group, member) for member in ("primary", "secondary")}
    values = pauses(group)
    leader, secondary = (written(group, member) - before[member] for member in ("primary", "secondary"))
    told("with a disk, each write on it", values)
    print(
        f"the guest wrote {leader / 1024:.0f} KiB; in all {1 + secondary / leader:.1f} times that was written, image and "
        f"overlays of both hosts"
    )
    assert len(values) > WRITES / 3 and leader > 4000 * WRITES
    assert secondary >= leader  # each write is there too
    group.wait("primary", service="protected")


def test_what_none_costs(new_group):
    group = new_group(output_release="syncvm")
    group.start()
    group.wait("primary", service="protected")
    values = pauses(group)
    told("without a disk", values)
    assert len(values) > WRITES / 3
