# SPDX-License-Identifier: GPL-3.0-or-later
"""Dirty tracking of a real process's guest memory (ours), guest memory as the core sees it, and the tool plover-hash."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import threading
from array import array

import pytest
from cityhash import CityHash64
from hypothesis import given, settings
from hypothesis import strategies as st
from plover.errors import InvariantViolation
from plover.native.buffers import NativeError
from plover.native.guest_memory import GuestMemory
from test_native import BUILD, PAGE_BYTES, PAGES, bitmap_of, build, lib, new_ram, pool  # noqa: F401 (fixtures)

from tests.examples import examples

USAGE = "usage: plover-hash [--threads N] FILE"


@pytest.fixture
def ram(tmp_path):
    out = new_ram(tmp_path / "ram")
    yield out
    out.close()


@pytest.fixture
def tracker(lib, ram, pool):  # noqa: F811
    out = lib.tracker("scan", os.getpid(), ram.path, ram, pool, "")
    yield out
    out.close()


def fetched(tracker):
    bitmap = bitmap_of([])
    return tracker.fetch(bitmap), bitmap


# --- tracking ---


def test_all_is_clean_at_first(tracker):
    assert fetched(tracker) == (0, bitmap_of([]))


@given(st.lists(st.sets(st.integers(0, PAGES - 1), max_size=12), min_size=1, max_size=4))
@settings(max_examples=examples(15))
def test_what_was_written_since_the_last_time_is_told_once(tmp_path_factory, lib, pool, rounds):  # noqa: F811
    ram = new_ram(tmp_path_factory.mktemp("tracker") / "ram")
    tracker = lib.tracker("scan", os.getpid(), ram.path, ram, pool, "")
    for written in rounds:
        for number in written:
            ram.map[number * PAGE_BYTES + number] ^= 1
        assert fetched(tracker) == (len(written), bitmap_of(written))
    assert fetched(tracker) == (0, bitmap_of([]))
    tracker.close()
    ram.close()


def test_what_is_told_is_added_to_the_bitmap(tracker, ram):
    ram.map[5 * PAGE_BYTES] ^= 1
    bitmap = bitmap_of([1, 64])
    assert tracker.fetch(bitmap) == 1
    assert bitmap == bitmap_of([1, 5, 64])


@pytest.mark.parametrize("length", [0, 8, 39, 41, 48])
def test_a_bitmap_of_another_size_is_refused(tracker, length):
    with pytest.raises(NativeError, match=f"dirty bitmap of {length} bytes, need 40"):
        tracker.fetch(bytearray(length))


def test_a_closed_tracker_is_refused_and_may_be_closed_again(tracker):
    tracker.close()
    with pytest.raises(NativeError, match="dirty tracking: Invalid argument"):
        fetched(tracker)
    tracker.close()


def test_an_unknown_back_end_is_refused_with_those_there_are(lib, ram, pool):  # noqa: F811
    with pytest.raises(NativeError, match="syncvm_dirty_tracking: no back end 'guess'; choose uffd-wp, soft-dirty or scan"):
        lib.tracker("guess", os.getpid(), ram.path, ram, pool, "")


def test_a_process_without_this_memory_is_refused(lib, ram, pool, tmp_path):  # noqa: F811
    child = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(NativeError, match=f"process {child.pid} has no mapping of {PAGES * PAGE_BYTES} bytes"):
            lib.tracker("scan", child.pid, ram.path, ram, pool, "")
    finally:
        child.kill()
        child.wait()
    with pytest.raises(NativeError, match=f"/proc/{child.pid}/maps: No such"):
        lib.tracker("scan", child.pid, ram.path, ram, pool, "")


def test_a_refused_process_costs_no_descriptor(lib, ram, pool, tmp_path):  # noqa: F811
    child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
    try:
        (tmp_path / "uffd").write_text(f"{child.pid} 0\n")  # stands for its userfaultfd, which can be fetched
        before = os.listdir("/proc/self/fd")
        with pytest.raises(NativeError, match="has no mapping"):
            lib.tracker("uffd-wp", child.pid, ram.path, ram, pool, str(tmp_path / "uffd"))
        assert os.listdir("/proc/self/fd") == before
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    "told, words",
    [
        (None, "QEMU told no userfaultfd .*is libplover_preload.so installed"),
        (b"", "QEMU told no userfaultfd"),
        (b"7", "QEMU told no userfaultfd"),
        (b"\xff\xfe 3\n", "QEMU told no userfaultfd"),
        (b"qemu 3\n", "QEMU told no userfaultfd"),
        (b"PID three\n", "QEMU told no userfaultfd"),
        (b"PID 3 4\n", "QEMU told no userfaultfd"),
        (b"PID error Not permitted\n", "could open no userfaultfd: error Not permitted; needs /dev/userfaultfd and Linux"),
        (b"1 3\n", "QEMU could open no userfaultfd"),
        (b"PID 99999\n", "pidfd_getfd from QEMU: Bad file descriptor"),
        (b"PID -1\n", "pidfd_getfd from QEMU"),
    ],
    ids=["none", "empty", "half", "no-ascii", "no-pid", "no-number", "more", "error", "another", "closed", "negative"],
)
def test_a_bad_word_of_qemus_userfaultfd_is_refused(lib, ram, pool, tmp_path, told, words):  # noqa: F811
    if told is not None:
        (tmp_path / "uffd").write_bytes(told.replace(b"PID", b"%d" % os.getpid()))
    with pytest.raises(NativeError, match=words):
        lib.tracker("uffd-wp", os.getpid(), ram.path, ram, pool, str(tmp_path / "uffd"))


def test_a_page_that_a_syncvm_overwrote_and_the_vm_wrote_back_is_told(lib, tracker, ram):  # noqa: F811
    """The VM did on its own what the leader did not: the same content as before the syncvm, but no longer the leader's."""
    ram.map[PAGE_BYTES : 2 * PAGE_BYTES] = b"1" * PAGE_BYTES
    assert fetched(tracker) == (1, bitmap_of([1]))
    lib.apply(ram, array("I", [1, 7]), b"2" * 2 * PAGE_BYTES)
    tracker.synced(array("I", [1, 7]), b"2" * 2 * PAGE_BYTES)
    ram.map[PAGE_BYTES : 2 * PAGE_BYTES] = b"1" * PAGE_BYTES
    assert fetched(tracker) == (1, bitmap_of([1]))
    with pytest.raises(NativeError):
        tracker.synced(array("I", [PAGES]), bytes(PAGE_BYTES))
    with pytest.raises(NativeError):
        tracker.synced(array("I", [1]), b"half a page")


def test_pages_that_both_hosts_hold_as_zeros_are_clean_as_long_as_they_are_zero(tracker, ram):
    assert any(ram.map[PAGE_BYTES : 2 * PAGE_BYTES])
    tracker.synced(array("I", [1, 2]), None)
    assert fetched(tracker) == (2, bitmap_of([1, 2]))
    tracker.synced(array("I", [1, 2]), None)
    ram.map[PAGE_BYTES : 2 * PAGE_BYTES] = bytes(PAGE_BYTES)
    assert fetched(tracker) == (1, bitmap_of([2]))
    with pytest.raises(NativeError):
        tracker.synced(array("I", [PAGES]), None)


def test_a_page_that_changed_while_it_was_sent_and_went_back_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(BUILD))
    new_ram(tmp_path / "ram").close()
    memory = GuestMemory(PAGES, 2)
    memory.map(tmp_path / "ram")
    memory.ram.map[: 2 * PAGE_BYTES] = b"1" * 2 * PAGE_BYTES
    asyncio.run(memory.track("scan", os.getpid(), tmp_path / "uffd"))
    memory.ram.map[:PAGE_BYTES] = b"2" * PAGE_BYTES
    memory.ram.map[PAGE_BYTES : 2 * PAGE_BYTES] = bytes(PAGE_BYTES)
    assert memory.nonzero(array("I", [0, 1])) == array("I", [0])
    assert memory.gather(array("I", [0])) == b"2" * PAGE_BYTES
    memory.ram.map[: 2 * PAGE_BYTES] = b"1" * 2 * PAGE_BYTES
    assert memory.pages_of(memory.fetch_dirty()) == array("I", [0, 1])
    memory.unmap()


class SoftDirty:
    """Says what a tracker that cannot clear while the VM runs is asked; the real one: tests/integration/test_trackers.py."""

    backend = "soft-dirty"

    def __init__(self) -> None:
        self.asked: list[object] = []

    def fetch(self, bitmap: bytearray, stopped: bool) -> int:
        self.asked.append("stopped" if stopped else "runs")
        return 0

    def synced(self, index: array, data: bytes | None) -> None:
        self.asked.append((list(index), data is None))

    def close(self) -> None:
        pass


def test_a_tracker_is_told_when_the_vm_stands_still_and_what_was_sent_while_it_ran(monkeypatch, tmp_path):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(BUILD))
    new_ram(tmp_path / "ram").close()
    memory = GuestMemory(PAGES, 2)
    memory.map(tmp_path / "ram")
    memory.ram.map[:PAGE_BYTES] = bytes(PAGE_BYTES)
    memory._tracker = tracker = SoftDirty()
    memory.lent = True

    async def initial_sync() -> None:
        async with memory.fetched(vm_runs=True):
            memory.fetch_dirty(vm_runs=True)
        assert memory.nonzero(array("I", [0, 1])) == array("I", [1])
        assert memory.gather(array("I", [1])) == memory.lend(array("I", [1])), "not lent: it must know what was sent"
        async with memory.fetched():  # the VM was stopped
            memory.fetch_dirty()
        memory.gather(array("I", [2]))

    asyncio.run(initial_sync())
    assert tracker.asked == ["runs", ([0], True), ([1], False), ([1], False), "stopped"]
    memory.unmap()


# --- guest memory, as the core sees it ---


def test_guest_memory_does_what_the_core_asks(monkeypatch, tmp_path):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(BUILD))
    new_ram(tmp_path / "ram").close()
    memory = GuestMemory(PAGES, 2)
    for work in (memory.fetch_dirty, lambda: memory.hash(array("I", [0])), lambda: memory.gather(array("I", [0]))):
        with pytest.raises(InvariantViolation):
            work()
    memory.map(tmp_path / "ram")
    asyncio.run(memory.track("scan", os.getpid(), tmp_path / "uffd"))
    pages = array("I", [3, 299])
    memory.apply(pages, b"b" * 2 * PAGE_BYTES)
    assert memory.pages_of(memory.fetch_dirty()) == array("I"), "what a syncvm brought is not what this VM wrote"
    memory.ram.map[3 * PAGE_BYTES : 4 * PAGE_BYTES] = b"a" * PAGE_BYTES
    memory.ram.map[299 * PAGE_BYTES :] = bytes(PAGE_BYTES)
    dirty = memory.fetch_dirty()
    assert memory.pages_of(dirty) == pages and memory.nonzero(pages) == array("I", [3])
    assert memory.union(dirty, bytes(bitmap_of([0]))) == array("I", [0, 3, 299])
    assert memory.gather(pages) == b"a" * PAGE_BYTES + bytes(PAGE_BYTES)
    hashes = memory.hash(pages)
    assert list(hashes) == [CityHash64(b"a" * PAGE_BYTES), CityHash64(bytes(PAGE_BYTES))]
    assert memory.compare(hashes, array("Q", [hashes[0], 1]), pages) == array("I", [299])
    assert memory.digest(b"text") == CityHash64(b"text")
    memory.unmap()
    with pytest.raises(InvariantViolation, match="tracking is not open"):
        memory.fetch_dirty()


def test_a_scan_is_made_before_it_is_asked_for_and_lost_by_nobody(monkeypatch, tmp_path):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(BUILD))
    new_ram(tmp_path / "ram").close()
    memory = GuestMemory(PAGES, 2)

    def write(page: int) -> None:
        memory.ram.map[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = os.urandom(PAGE_BYTES)

    async def run() -> None:
        async with memory.fetched():
            with pytest.raises(InvariantViolation):
                memory.fetch_dirty()
        memory.map(tmp_path / "ram")
        await memory.track("scan", os.getpid(), tmp_path / "uffd")
        write(1)
        async with memory.fetched():
            write(2)  # the VM does not; here it shows that nothing is read any more
            assert memory.pages_of(memory.fetch_dirty()) == array("I", [1])
        write(3)
        async with memory.fetched():
            pass  # the syncvm was given up in the meantime
        write(4)
        assert memory.pages_of(memory.fetch_dirty()) == array("I", [2, 3, 4])
        memory.unmap()

    asyncio.run(run())


def test_what_reads_all_of_memory_holds_nobody_up(monkeypatch, tmp_path):
    """A daemon whose loop stood still meanwhile would send no heartbeat, and count as lost."""
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(BUILD))
    new_ram(tmp_path / "ram").close()
    memory = GuestMemory(PAGES, 2)
    memory.map(tmp_path / "ram")
    hold = threading.Event()

    def held(work):
        def held_work(*arguments, **options):
            assert hold.wait(5.0), "the loop stands still"
            return work(*arguments, **options)

        return held_work

    async def run() -> None:
        monkeypatch.setattr(memory._native, "tracker", held(memory._native.tracker))
        asyncio.get_running_loop().call_later(0.01, hold.set)
        await memory.track("scan", os.getpid(), tmp_path / "uffd")
        hold.clear()
        monkeypatch.setattr(memory._tracker, "fetch", held(memory._tracker.fetch))
        asyncio.get_running_loop().call_later(0.01, hold.set)
        async with memory.fetched():
            assert memory.pages_of(memory.fetch_dirty()) == array("I")
        memory.unmap()

    asyncio.run(run())


# --- plover-hash ---


def plover_hash(*arguments, stdout=subprocess.PIPE):
    return subprocess.run(
        [BUILD / "plover-hash", *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=20
    )


@pytest.mark.parametrize("options", [(), ("--threads", 1), ("--threads", 2), ("--threads", 7), ("--threads", 1024)])
def test_the_tool_prints_one_hash_of_16_digits_for_each_page(tmp_path, options):
    data = random.Random(3).randbytes(PAGE_BYTES * 500) + bytes(PAGE_BYTES)
    (tmp_path / "ram").write_bytes(data)
    done = plover_hash(*options, tmp_path / "ram")
    assert (done.returncode, done.stderr) == (0, "")
    pages = [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]
    assert done.stdout.splitlines() == [f"{CityHash64(page):016x}" for page in pages]
    assert done.stdout.endswith("06c5df0488653d58\n")


def test_an_empty_file_has_no_pages(tmp_path):
    (tmp_path / "empty").touch()
    done = plover_hash(tmp_path / "empty")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("size", [1, 4095, 4097, 8191, 3 * 4096 + 8])
def test_a_file_of_odd_size_is_refused(tmp_path, size):
    (tmp_path / "odd").write_bytes(bytes(size))
    done = plover_hash(tmp_path / "odd")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"plover-hash: {tmp_path}/odd: its size is not a multiple of 4096 bytes\n"


@pytest.mark.parametrize(
    "path, words",
    [
        ("missing", "No such file or directory"),
        (".", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
        ("file/x", "Not a directory"),
    ],
)
def test_what_is_no_file_is_refused_by_its_name(tmp_path, path, words):
    (tmp_path / "file").touch()
    done = plover_hash(tmp_path / path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"plover-hash: {tmp_path / path}: {words}\n")


@pytest.mark.parametrize("threads", ["0", "1025", "-1", "", "two", "2x", "1.5", "99999999999999999999", "0x10"])
def test_a_bad_number_of_threads_is_refused(tmp_path, threads):
    (tmp_path / "ram").write_bytes(bytes(4096))
    done = plover_hash("--threads", threads, tmp_path / "ram")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "plover-hash: --threads: must be a number from 1 to 1024\n"


@pytest.mark.parametrize(
    "arguments", [(), ("--threads",), ("--thread",), ("--threads", 2), ("--threads", 2, "-h"), ("a", "b"), ("--threads", 2, "a", "b")]
)
def test_wrong_arguments_get_the_usage(arguments):
    done = plover_hash(*arguments)
    assert done.returncode == 2 and done.stdout == "" and USAGE in done.stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_no_error(option):
    done = plover_hash(option)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith(USAGE)


def test_output_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "ram").write_bytes(bytes(4096))
    with open("/dev/full", "w") as full:
        done = plover_hash(tmp_path / "ram", stdout=full)
    assert done.returncode == 2 and "standard output: No space left on device" in done.stderr
