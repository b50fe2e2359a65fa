# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest memory that may get huge pages is refused with soft-dirty, and only then."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plover.native.buffers import NativeError
from plover.native.guest_memory import GuestMemory
from plover.native.huge_pages import SHMEM_ENABLED, judge
from test_native import BUILD, PAGES, new_ram

NEVER, DENY = "always within_size advise [never] deny force\n", "always within_size advise never [deny] force\n"
FORCE, ALWAYS = "always within_size advise never deny [force]\n", "[always] within_size advise never deny force\n"


def mount(place: str, kind: str = "tmpfs", options: str = "rw") -> str:
    return f"36 35 0:31 / {place} rw,nosuid shared:5 - {kind} source {options}\n"


ROOT = mount("/", "ext4", "rw,errors=remount-ro")
SHM = "/dev/shm/plover/demo.ram"


@pytest.mark.parametrize(
    "path, mounts, rule, words",
    [
        (SHM, ROOT + mount("/dev/shm"), NEVER, ""),
        (SHM, ROOT + mount("/dev/shm"), ALWAYS, ""),  # that is for memory without a mount of its own
        (SHM, ROOT + mount("/dev/shm", options="rw,size=1024k,huge=never"), NEVER, ""),
        (SHM, ROOT + mount("/dev/shm", options="rw,size=1024k,huge=always"), NEVER, "/dev/shm is mounted with huge=always"),
        (SHM, ROOT + mount("/dev/shm", options="rw,huge=within_size,inode64"), NEVER, "huge=within_size; remount it"),
        (SHM, ROOT + mount("/dev/shm", options="rw,huge=advise"), NEVER, "huge=advise"),  # QEMU does advise it
        (SHM, ROOT + mount("/dev/shm", options="rw,huge=always"), DENY, ""),
        (SHM, ROOT + mount("/dev/shm"), FORCE, "shmem_enabled is 'force'; write 'never'"),
        (SHM, ROOT + mount("/dev/shm") + mount("/dev/shm/plover", options="rw,huge=always"), NEVER, "/dev/shm/plover is mounted"),
        (SHM, ROOT + mount("/dev/shm", options="rw,huge=always") + mount("/dev/shm"), NEVER, ""),  # mounted over it
        (SHM, ROOT + mount("/dev/shm") + mount("/dev/shm/plo", options="rw,huge=always"), NEVER, ""),
        (SHM, ROOT + mount("/dev/shm", "hugetlbfs", "rw,pagesize=2M"), DENY, "a hugetlbfs; set shm_dir"),
        (SHM, ROOT, FORCE, ""),
        ("/my files/ram", ROOT + mount("/my\\040files", options="rw,huge=always"), NEVER, "/my files is mounted"),
        (SHM, "nonsense\n\n" + ROOT, NEVER, ""),
    ],
)
def test_it_is_found_out_whether_a_file_may_get_huge_pages(path, mounts, rule, words):
    why = judge(path, mounts, rule)
    assert words in why and bool(why) == bool(words)
    assert not why or "syncvm_dirty_tracking: uffd-wp" in why


@pytest.mark.skipif(not SHMEM_ENABLED.exists(), reason="this kernel has no huge pages")
def test_a_real_mount_is_understood(tmp_path):
    program = f"from pathlib import Path; from plover.native.huge_pages import why_possible; print(why_possible(Path('{tmp_path}/ram')))"
    script = f'mount -t tmpfs -o size=8m,huge=always x {tmp_path} && exec {sys.executable} -c "{program}"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "plugins" / "module_utils")},
    )
    assert f"{tmp_path} is mounted with huge=always" in done.stdout


def test_a_tracker_that_would_miss_them_is_not_opened(monkeypatch, tmp_path):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(BUILD))
    new_ram(tmp_path / "ram").close()
    memory = GuestMemory(PAGES, 1)
    memory.map(tmp_path / "ram")
    monkeypatch.setattr("plover.native.huge_pages.why_possible", lambda path: f"{path} is mounted with huge=always")
    with pytest.raises(NativeError, match="writes to huge pages are not all tracked, and .*ram is mounted with huge=always"):
        asyncio.run(memory.track("soft-dirty", os.getpid(), tmp_path / "uffd"))
    asyncio.run(memory.track("scan", os.getpid(), tmp_path / "uffd"))
    memory.unmap()


def test_memory_is_locked_early_for_soft_dirty_alone(monkeypatch, tmp_path):
    def locked_kib() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmLck")).split()[1])

    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(BUILD))
    new_ram(tmp_path / "ram").close()
    memory, before = GuestMemory(PAGES, 1), locked_kib()
    memory.map(tmp_path / "ram")
    asyncio.run(memory.prepare("scan"))
    assert locked_kib() == before
    asyncio.run(memory.prepare("soft-dirty"))
    assert locked_kib() == before + 4 * PAGES
    memory.unmap()
    asyncio.run(memory.prepare("soft-dirty"))  # QEMU has ended meanwhile
    assert locked_kib() == before
