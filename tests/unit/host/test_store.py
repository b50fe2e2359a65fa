# SPDX-License-Identifier: GPL-3.0-or-later
"""The durable state: whatever happens to its file, the member starts with what it saved last, or says why it does not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import zlib
from pathlib import PurePath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable, Record
from plover.errors import DurableStateError
from plover.host.store import BIRTH, FIRST_BOOT, SPARE, Store
from settings import MEMBERS

from lab.paths import ROOT
from tests.examples import examples
from tests.sim.disk import SimDisk

u64 = st.integers(0, 2**64 - 1)
names = st.text(max_size=12)
records = st.builds(Record, u64, u64, st.frozensets(names, max_size=3))
states = st.builds(Durable, u64, st.none() | names, records)
OLD = Durable(7, "primary", Record(5, 2, frozenset({"primary"})))
NEW = Durable(8, "secondary", Record(8, 3, frozenset({"primary", "secondary"})))
REMEDY = "is damaged .*stays out. Move the file away, never restore an older one"


@pytest.fixture
def store(tmp_path):
    out = Store(tmp_path / "demo")
    out.save(OLD)
    return out


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder for many examples."""
    return tmp_path_factory.mktemp("durable")


def path_of(store):
    return store._path


def with_checksum(body):
    """A file whose checksum fits ``body``."""
    return b"%s\n%08x\n" % (body, zlib.crc32(body))


def test_without_a_file_a_member_has_forgotten_what_it_promised(tmp_path):
    store = Store(tmp_path / "new" / "demo")
    assert store.load() is None and store.begin() is None
    assert list((tmp_path / "new" / "demo").iterdir()) == []  # and it is so at the next start too


def test_a_new_member_starts_from_nothing_once(tmp_path):
    store = Store(tmp_path)
    (tmp_path / FIRST_BOOT).touch()
    assert store.begin() == Durable(0, None, Record(0, 0, frozenset()))
    assert {path.name for path in tmp_path.iterdir()} == {"state.json", BIRTH, SPARE}
    assert store.begin() == Durable()
    path_of(store).unlink()
    assert store.begin() is None


def test_a_mark_that_was_left_counts_for_nothing_and_goes(store):
    mark = path_of(store).with_name(FIRST_BOOT)
    mark.touch()
    assert store.begin() == OLD and not mark.exists()


def test_the_mark_goes_once_the_state_is_on_the_disk(store, monkeypatch):
    path_of(store).unlink()
    mark = path_of(store).with_name(FIRST_BOOT)
    mark.touch()
    there = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (there.append(mark.exists()), fsync(fd)))
    store.begin()
    assert there == [True, True, False]  # the file, its name, and that the mark is gone


def test_a_folder_that_was_copied_from_another_member_is_refused(store):
    folder = path_of(store).parent
    assert Store(folder, member="witness").begin() == OLD  # of an older version: nothing is noted yet
    assert (folder / "member").read_text() == "witness\n"
    assert Store(folder, member="witness").begin() == OLD
    for content in (b"witness\n", b"\xff"):
        (folder / "member").write_bytes(content)
        with pytest.raises(DurableStateError, match="state folder is of member .* it was copied. Empty it"):
            Store(folder, member="secondary").begin()


class _NoFsyncOfNames(SimDisk):
    """Fails the next sync of a folder: what was renamed reads well, and is not on the disk."""

    fails = False

    def sync(self, path):
        if self.fails and not path.suffix:
            self.fails = False
            raise OSError(5, "Input/output error")
        super().sync(path)


@pytest.mark.parametrize("seed", range(8))
def test_what_was_read_is_on_the_disk_before_it_is_acted_on(seed):
    disk = _NoFsyncOfNames(random.Random(seed))
    Store(PurePath("/state"), disk).save(OLD)
    disk.fails = True
    with pytest.raises(DurableStateError):
        Store(PurePath("/state"), disk).save(NEW)
    begun = Store(PurePath("/state"), disk).begin()  # the daemon's next start: it speaks of what it read
    disk.power_loss()
    assert Store(PurePath("/state"), disk).load() == begun == NEW


def test_the_folder_is_for_root_only(tmp_path):
    Store(tmp_path / "demo")
    assert (tmp_path / "demo").stat().st_mode & 0o777 == 0o700


@given(states)
@example(Durable(1, 'caf\u00e9\n"\\', Record(1, 1, frozenset({"\n", "\u20ac", ""}))))
def test_what_is_saved_is_loaded(scratch, state):
    Store(scratch).save(state)
    loaded = Store(scratch).load()
    assert loaded == state
    assert type(loaded.record.in_sync) is frozenset and type(loaded.view) is int


@given(st.lists(states, min_size=1, max_size=4))
@settings(max_examples=examples(15))
def test_the_last_state_saved_counts(scratch, several):
    for state in several:
        Store(scratch).save(state)
    assert Store(scratch).load() == several[-1]


def test_a_file_cut_at_any_length_is_refused(store):
    whole = path_of(store).read_bytes()
    for length in range(len(whole) - 1):
        path_of(store).write_bytes(whole[:length])
        with pytest.raises(DurableStateError, match=REMEDY):
            store.load()
    path_of(store).write_bytes(whole[:-1])  # only the last line's end is missing
    assert store.load() == OLD


def test_every_flipped_bit_is_refused_or_harmless(store):
    whole = path_of(store).read_bytes()
    harmless = 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path_of(store).write_bytes(flipped)
        try:
            assert store.load() == OLD
            harmless += 1  # such as a hexadecimal digit in upper case
        except DurableStateError as error:
            assert str(path_of(store)) in str(error)
    assert harmless <= 12


@given(st.binary(max_size=200))
@example(b"")
@example(b"\n")
@example(b"\n\n\n")
@example(b"\0" * 4096)
@example(b"{}\n")
@example(b"\xff\xfe\n00000000\n")
def test_a_file_of_anything_else_is_refused(scratch, content):
    store = Store(scratch)
    path_of(store).write_bytes(content)
    with pytest.raises(DurableStateError, match="state.json: (is damaged|cannot be read)"):
        store.load()


@given(st.data())
def test_a_part_of_one_state_and_a_part_of_another_is_refused(scratch, data):
    store = Store(scratch)
    files = []
    for state in (OLD, NEW):
        store.save(state)
        files.append(path_of(store).read_bytes())
    cut = data.draw(st.integers(1, min(map(len, files)) - 1))
    path_of(store).write_bytes(files[1][:cut] + files[0][cut:])
    try:
        assert store.load() in (OLD, NEW)  # the cut lies where both are equal
    except DurableStateError as error:
        assert "is damaged" in str(error)


GOOD = {"view": 7, "voted_for": "primary", "record": {"view": 5, "version": 2, "in_sync": ["primary"]}}
WRONG = {
    "no view": {k: v for k, v in GOOD.items() if k != "view"},
    "no vote": {k: v for k, v in GOOD.items() if k != "voted_for"},
    "no record": {k: v for k, v in GOOD.items() if k != "record"},
    "an unknown key": {**GOOD, "format": 2},
    "view is text": {**GOOD, "view": "7"},
    "view is a fraction": {**GOOD, "view": 7.5},
    "view is true": {**GOOD, "view": True},
    "view is null": {**GOOD, "view": None},
    "view is infinite": {**GOOD, "view": float("inf")},
    "view is no number": {**GOOD, "view": float("nan")},
    "view is negative": {**GOOD, "view": -1},
    "vote is a list": {**GOOD, "voted_for": ["primary"]},
    "vote is a number": {**GOOD, "voted_for": 3},
    "record is null": {**GOOD, "record": None},
    "record is a list": {**GOOD, "record": []},
    "version is text": {**GOOD, "record": {**GOOD["record"], "version": "2"}},
    "version is negative": {**GOOD, "record": {**GOOD["record"], "version": -2}},
    "in_sync is text": {**GOOD, "record": {**GOOD["record"], "in_sync": "primary"}},
    "in_sync has numbers": {**GOOD, "record": {**GOOD["record"], "in_sync": [1]}},
    "in_sync has lists": {**GOOD, "record": {**GOOD["record"], "in_sync": [["primary"]]}},
    "in_sync twice": {**GOOD, "record": {**GOOD["record"], "in_sync": ["primary", "primary"]}},
    "in_sync is null": {**GOOD, "record": {**GOOD["record"], "in_sync": None}},
    "a list": [7, "primary"],
    "null": None,
}


def test_the_good_body_of_these_tests_is_good(store):
    path_of(store).write_bytes(with_checksum(json.dumps(GOOD).encode()))
    assert store.load() == OLD


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_another_versions_file_is_refused_even_if_its_checksum_fits(store, data):
    path_of(store).write_bytes(with_checksum(json.dumps(data).encode()))
    with pytest.raises(DurableStateError, match=REMEDY):
        store.load()


def test_endless_nesting_is_refused(store):
    path_of(store).write_bytes(with_checksum(b"[" * 100_000))
    with pytest.raises(DurableStateError, match=REMEDY):
        store.load()


@pytest.mark.parametrize(
    "state, stranger",
    [
        (Durable(7, "host-a", Record(5, 2, frozenset({"primary"}))), "host-a"),
        (Durable(7, None, Record(5, 2, frozenset({"primary", "host-b"}))), "host-b"),
    ],
    ids=["vote", "record"],
)
def test_the_state_of_another_clusters_member_is_refused(state, stranger):
    kinds = {name: member["kind"] for name, member in MEMBERS.items()}
    with pytest.raises(DurableStateError, match=f"names .'{stranger}'.*another cluster's"):
        Consensus("witness", kinds, state, Timing(0.1, 0.02), 0.0)
    Consensus("witness", kinds, OLD, Timing(0.1, 0.02), 0.0)


# --- writing ---


def test_a_leftover_temporary_file_does_not_count_and_does_not_harm(store):
    leftover = path_of(store).with_suffix(".new")
    for content in (b"", b"{", with_checksum(json.dumps({**GOOD, "view": 99}).encode())):
        leftover.write_bytes(content)
        assert store.load() == OLD
    store.save(NEW)
    assert store.load() == NEW and not leftover.exists()


@pytest.mark.parametrize("bytes_left", [0, 1, 50, 100])
def test_a_write_that_ends_in_the_middle_is_told_and_leaves_the_old_state(store, bytes_left):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, limits[1]))  # what is longer fails, like on a full disk
    try:
        with pytest.raises(DurableStateError, match="state_dir: cannot write .*free space or fix it"):
            store.save(NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path_of(store).with_suffix(".new").stat().st_size <= bytes_left
    assert store.load() == OLD
    store.save(NEW)
    assert store.load() == NEW


def test_a_full_disk_keeps_no_member_from_its_vote(tmp_path, caplog):
    """Nor from the next ones, for as long as nobody takes the room that the last state leaves."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", str(tmp_path)], check=True)
    try:
        store = Store(tmp_path / "demo")
        store.save(OLD)
        with contextlib.suppress(OSError), open(tmp_path / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        assert os.statvfs(tmp_path).f_bavail == 0 and not caplog.messages
        for n in range(20):
            store.save(NEW._replace(view=NEW.view + n))
            assert store.load().view == NEW.view + n
        assert "is full; the room kept for the member's state is used. Free space there" in caplog.messages[0]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_state_that_cannot_be_written_or_read_is_told(store):
    path_of(store).with_suffix(".new").mkdir()
    with pytest.raises(DurableStateError, match="state_dir: cannot write"):
        store.save(NEW)
    path_of(store).unlink()
    path_of(store).mkdir()
    with pytest.raises(DurableStateError, match="cannot be read"):
        store.load()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DurableStateError, match="state_dir: cannot create"):
        Store(tmp_path / "file" / "demo")


def test_the_data_is_synced_before_the_name_and_the_name_before_save_returns(store, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append((str(old), str(new))), replace(old, new)))
    store.save(NEW)
    path = str(path_of(store))
    new = path.replace(".json", ".new")
    assert calls == [new, (new, path), os.path.dirname(path)]


SAVER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from plover.consensus.durable import Durable, Record
from plover.host.store import Store
store = Store(Path(sys.argv[2]))
view = (store.load() or Durable()).view
while True:
    view += 1
    store.save(Durable(view, "primary" * (view % 50), Record(view, view, frozenset({"primary"}))))
    sys.stdout.write(f"{view}\\n")
    sys.stdout.flush()
"""


def test_a_member_killed_at_any_moment_keeps_what_it_had_saved(tmp_path):
    for lines in (1, 2, 7, 23, 60, 100):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(ROOT / "plugins/module_utils"), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        said = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        told = int((said + child.stdout.readlines())[-1])
        child.wait()
        child.stdout.close()
        state = Store(tmp_path).load()
        assert state.view >= told >= lines
        whole = Record(state.view, state.view, frozenset({"primary"}))
        assert state == Durable(state.view, "primary" * (state.view % 50), whole)
