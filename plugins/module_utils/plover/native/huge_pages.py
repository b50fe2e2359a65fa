# SPDX-License-Identifier: GPL-3.0-or-later
"""Can guest memory consist of huge pages? With soft-dirty it must not.

When the kernel gathers pages of a tmpfs into a huge page, or splits one, it drops their mappings. Each page is mapped again
when it is next touched, without its soft-dirty bit (mm/khugepaged.c, mm/huge_memory.c). When the kernel does so: Linux
Documentation/filesystems/tmpfs.rst and admin-guide/mm/transhuge.rst.
"""

from __future__ import annotations

from pathlib import Path

SHMEM_ENABLED = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
REMEDY = "or set syncvm_dirty_tracking: uffd-wp (Linux >= 6.7) or scan"


def why_possible(path: Path) -> str:
    """Why the file ``path`` may get huge pages, with a remedy; empty if it cannot."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        return f"/proc/self/mountinfo: {error.strerror}; {REMEDY[3:]}"
    try:
        rule = SHMEM_ENABLED.read_text(encoding="ascii")
    except OSError:
        return ""  # this kernel has no huge pages in tmpfs
    return judge(str(path.resolve()), mounts, rule)


def judge(path: str, mounts: str, rule: str) -> str:
    """The same, from the text of mountinfo (``mounts``) and of shmem_enabled (``rule``), e.g. "always within_size advise [never]
    deny force"."""
    place, kind, options = _mount_of(path, mounts)
    chosen = rule.partition("[")[2].partition("]")[0]
    if kind == "hugetlbfs":
        return f"{place} is a hugetlbfs; set shm_dir to a folder of a tmpfs, {REMEDY}"
    if kind != "tmpfs" or chosen == "deny":
        return ""
    if chosen == "force":
        return f"{SHMEM_ENABLED} is 'force'; write 'never' to it, {REMEDY}"
    huge = next((option for option in options if option.startswith("huge=") and option != "huge=never"), "")
    return f"{place} is mounted with {huge}; remount it with huge=never, {REMEDY}" if huge else ""


def _mount_of(path: str, mounts: str) -> tuple[str, str, list[str]]:
    """(mount point, kind, options) of the file system that holds ``path``: the deepest mount, and of several there the last."""
    found: tuple[str, str, list[str]] = ("", "", [])
    for line in mounts.splitlines():
        mount, _dash, file_system = line.partition(" - ")
        fields, rest = mount.split(" "), file_system.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        place = _unescaped(fields[4])
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(found[0]):
            found = (place, rest[0], rest[2].split(","))
    return found


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
