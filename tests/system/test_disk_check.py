# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a guest's disk, on small file systems made whole and broken."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from lab.disk_check import check_image

PAIRS = 200


def make(folder: Path, rows=lambda path: None, database: bool = True) -> Path:
    """A disk with rows.db, changed by ``rows`` before it is put there."""
    data = folder / "tree" / "data"
    data.mkdir(parents=True)
    (data / "other").write_bytes(b"x" * 20000)
    if database:
        with closing(sqlite3.connect(data / "rows.db")) as db, db:
            db.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, pair INTEGER NOT NULL, body TEXT NOT NULL)")
            db.execute("CREATE INDEX pairs ON rows (pair)")
            db.executemany("INSERT INTO rows (pair, body) VALUES (?, 'body of a row')", [(n // 2 + 1,) for n in range(2 * PAIRS)])
        rows(data / "rows.db")
    image = folder / "disk.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(folder / "tree"), str(image), "16M"], check=True)
    return image


def write(image: Path, request: str) -> None:
    subprocess.run(["debugfs", "-w", "-R", request, str(image)], check=True, capture_output=True)


def debugfs(image: Path, request: str) -> str:
    return subprocess.run(["debugfs", "-R", request, str(image)], check=True, capture_output=True, text=True).stdout


def execute(statement: str):
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(statement)

    return change


@pytest.mark.parametrize("database", [True, False])
def test_a_whole_disk_is_only_read(tmp_path, database):
    image = make(tmp_path, database=database)
    before = image.read_bytes()
    assert check_image(image) == []
    assert image.read_bytes() == before and {p.name for p in tmp_path.iterdir()} == {"tree", "disk.img"}


@pytest.mark.parametrize(
    "request_", ["clri /data/other", "freeb 1", "set_inode_field /data/other links_count 7", "set_super_value state 3"]
)
def test_a_broken_file_system(tmp_path, request_):
    image = make(tmp_path)
    write(image, request_)
    assert check_image(image) != []


def test_no_file_system(tmp_path):
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    assert check_image(image)[0].startswith("the file system is not clean: ")


@pytest.mark.parametrize(
    "statement, why",
    [
        (f"DELETE FROM rows WHERE n = {2 * PAIRS}", f"transaction {PAIRS} has 1 rows instead of 2"),
        (f"INSERT INTO rows (pair, body) VALUES ({PAIRS}, '')", f"transaction {PAIRS} has 3 rows instead of 2"),
        ("DELETE FROM rows WHERE pair IN (50, 60)", "2 transactions before the last one are not there"),
    ],
)
def test_rows_that_are_missing(tmp_path, statement, why):
    assert check_image(make(tmp_path, execute(statement))) == [f"sqlite: {why}"]


def test_rows_that_are_damaged(tmp_path):
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[4096 * 3 : 4096 * 4] = bytes(4096)
        path.write_bytes(content)

    assert any(problem.startswith("sqlite: ") for problem in check_image(make(tmp_path, damage)))


def test_a_table_not_made_yet(tmp_path):
    assert check_image(make(tmp_path, execute("DROP TABLE rows"))) == []


def with_journal(folder: Path) -> Path:
    """A disk whose first block of rows.db is only in the journal: on its place are zeros."""
    image = make(folder)
    block = int(debugfs(image, "blocks /data/rows.db").split()[0])
    size = next(int(line.split(":")[1]) for line in debugfs(image, "stats").splitlines() if line.startswith("Block size"))
    content = image.read_bytes()
    (folder / "block").write_bytes(content[block * size :][:size])
    image.write_bytes(content[: block * size] + bytes(size) + content[(block + 1) * size :])
    (folder / "requests").write_text(f"journal_open\njournal_write -b {block} {folder / 'block'}\njournal_close\n")
    subprocess.run(["debugfs", "-w", "-f", str(folder / "requests"), str(image)], check=True, capture_output=True)
    assert "needs_recovery" in debugfs(image, "stats")
    return image


def test_the_journal_is_replayed_first(tmp_path):
    image = with_journal(tmp_path)
    before = image.read_bytes()
    assert check_image(image) == []
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    "request_, why",
    [("clri /data/other", "e2fsck finds errors"), ("set_super_value state 3", "the file system is not clean: clean with errors")],
)
def test_a_replay_repairs_nothing(tmp_path, request_, why):
    image = with_journal(tmp_path)
    write(image, request_)
    assert check_image(image)[0].startswith(why)
