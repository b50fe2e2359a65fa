# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the disk of a guest that is not running. `python3 -m lab.disk_check IMAGE` prints what is wrong with it.

Done on a private copy, as a guest after a power loss would do it: the journal is replayed and what was being deleted is
deleted; then nothing may be left for e2fsck to say. SQLite's file is taken out with its journal and asked the same way.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

ROWS = "/data/rows.db"
SQLITE_FILES = (ROWS, ROWS + "-journal", ROWS + "-wal")
TIMEOUT_S = 120.0


def tool(*command: str) -> tuple[int, str]:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def unclean(image: Path) -> list[str]:
    """Errors recorded in the superblock: the guest's kernel noted them when it met them."""
    said = tool("dumpe2fs", "-h", str(image))[1]
    found = re.search(r"^Filesystem state:\s*(.*)$", said, re.M)
    if found and found.group(1) == "clean":
        return []
    return [f"the file system is not clean: {found.group(1) if found else said}"]


def check_file_system(image: Path) -> list[str]:
    """Writes to ``image``: the caller's copy. Nothing is repaired before it is looked for.

    The journal is replayed without -f, which would make a repair of it; with debugfs it cannot be, as that reads bitmaps
    first. The replay may write over the superblock's state, so that is read before, too.
    """
    if problems := unclean(image):
        return problems
    code, said = tool("e2fsck", "-p", "-E", "journal_only", str(image))
    if code > 1:
        return [f"the journal cannot be replayed: {said}"]
    if problems := unclean(image):
        return problems
    code, said = tool("e2fsck", "-p", str(image))  # clean, so no full check: deletes what a mount would delete
    if code > 1 or "check forced" in said:
        return [f"the file system needs a repair: {said}"]
    code, said = tool("e2fsck", "-fn", str(image))
    return [f"e2fsck finds errors: {said}"] if code else []


def check_rows(database: Path) -> list[str]:
    """Each transaction added two rows: neither half a transaction nor a hole may be there."""
    try:
        with closing(sqlite3.connect(database)) as rows:
            problems = [f"sqlite: {line}" for (line,) in rows.execute("PRAGMA integrity_check") if line != "ok"]
            if not rows.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone():
                return problems  # it died before it had a table
            for pair, count in rows.execute("SELECT pair, count(*) FROM rows GROUP BY pair HAVING count(*) <> 2"):
                problems.append(f"sqlite: transaction {pair} has {count} rows instead of 2")
            ((pairs, last),) = rows.execute("SELECT count(DISTINCT pair), ifnull(max(pair), 0) FROM rows")
            if pairs != last:
                problems.append(f"sqlite: {last - pairs} transactions before the last one are not there")
            return problems
    except sqlite3.Error as error:
        return [f"sqlite: {error}"]


def take_out(image: Path, folder: Path) -> Path:
    """SQLite's files, copied from the image into ``folder``; the path of the database, which may not be there."""
    for name in SQLITE_FILES:
        if "Type: regular" in tool("debugfs", "-R", f"stat {name}", str(image))[1]:
            tool("debugfs", "-R", f"dump {name} {folder / Path(name).name}", str(image))
    return folder / Path(ROWS).name


def check_image(path: Path) -> list[str]:
    """Problems of the disk at ``path``, which is only read; [] if there are none. No guest may be running on it."""
    with tempfile.TemporaryDirectory(dir=path.resolve().parent) as scratch:
        copy = Path(scratch, "disk.img")
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", str(path), str(copy)], check=True)
        problems = check_file_system(copy)
        database = take_out(copy, Path(scratch))
        return problems + (check_rows(database) if database.exists() else [])


def main() -> int:
    problems = check_image(Path(sys.argv[1]))
    print("\n".join(problems) or "nothing is wrong")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
