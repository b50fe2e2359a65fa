# SPDX-License-Identifier: GPL-3.0-or-later
"""The native library through its binding: Google's hash, page sets beside plain Python, bad arguments, plover-hash."""

from __future__ import annotations

import os
import random
import subprocess
from array import array

import pytest
from cityhash import CityHash64
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plover.native import library as native
from plover.native.buffers import PAGE_BYTES, NativeError
from plover.native.guest_ram import GuestRam
from plover.native.library import Native

from lab.paths import ROOT
from tests.examples import examples

BUILD = ROOT / "native" / "build"
PAGES = 300  # above what the pool does alone, and no multiple of 64
ALL = array("I", range(PAGES))
KNOWN = [
    (bytes(4096), 0x06C5DF0488653D58),
    (bytes(range(256)) * 16, 0x9ADDE01425F78614),
    (b"\xff" * 4096, 0x2B5E63A363DF7394),
    (b"", 0x9AE16A3B2F90404F),
]
page_sets = st.lists(st.integers(0, PAGES - 1), max_size=40)


@pytest.fixture(scope="module", autouse=True)
def build():
    if not (BUILD / "plover-hash").exists():
        subprocess.run(["make", "-s", "-C", str(ROOT / "native")], check=True)


@pytest.fixture(scope="module")
def lib(build):
    return Native(BUILD)


@pytest.fixture(scope="module")
def pool(lib):
    return lib.pool(2)


def new_ram(path, pages=PAGES):
    path.write_bytes(random.Random(1).randbytes(pages * PAGE_BYTES))
    return GuestRam(str(path), pages)


@pytest.fixture(scope="module")
def ram(tmp_path_factory):
    """Guest memory that tests only read, or write back."""
    out = new_ram(tmp_path_factory.mktemp("native") / "ram")
    out.map[7 * PAGE_BYTES : 9 * PAGE_BYTES] = bytes(2 * PAGE_BYTES)
    yield out
    out.close()


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Guest memory that tests write."""
    out = new_ram(tmp_path_factory.mktemp("native") / "few", 4)
    yield out
    out.close()


def page(ram, number):
    return ram.map[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]


def bitmap_of(numbers, pages=PAGES):
    out = bytearray((pages + 63) // 64 * 8)
    for number in numbers:
        out[number // 8] |= 1 << number % 8
    return out


# --- CityHash64 ---


@pytest.mark.parametrize("data, digest", KNOWN, ids=["zeros", "0..255", "ones", "empty"])
def test_known_answers(lib, data, digest):
    assert lib.cityhash64(data) == digest == CityHash64(data)


def test_every_length_up_to_some_hundred_bytes_hashes_like_googles(lib):
    data = random.Random(2).randbytes(700)
    for length in range(len(data)):
        assert lib.cityhash64(data[:length]) == CityHash64(data[:length])


@given(st.binary(max_size=5000))
def test_any_buffer_hashes_like_googles(lib, data):
    assert lib.cityhash64(data) == CityHash64(data)


@given(st.integers())
def test_any_page_hashes_like_googles(lib, seed):
    data = random.Random(seed).randbytes(PAGE_BYTES)
    assert lib.cityhash64(data) == CityHash64(data)


def test_every_kind_of_buffer_hashes_alike(lib):
    data = b"x" + bytes(range(256)) * 16
    views = [
        data[1:],
        bytearray(data[1:]),
        memoryview(data)[1:],
        memoryview(bytearray(data))[1:],
        array("B", data[1:]),
        array("Q", data[1:]),
        memoryview(data[1:]).cast("I"),
    ]
    assert {lib.cityhash64(view) for view in views} == {KNOWN[1][1]}


# --- pages ---


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64])
def test_any_number_of_threads_gives_the_same_hashes(lib, ram, threads):
    pool = lib.pool(threads)
    wanted = array("Q", (CityHash64(page(ram, n)) for n in ALL))
    assert pool.threads == threads
    for _ in range(5):
        assert lib.hash_pages(pool, ram, ALL) == wanted


def test_without_a_number_there_are_as_many_threads_as_cores(lib):
    assert lib.pool().threads == os.sysconf("SC_NPROCESSORS_ONLN")


@given(page_sets)
@example([])
def test_the_hashes_are_in_the_order_of_the_pages_asked_for(lib, pool, ram, numbers):
    assert list(lib.hash_pages(pool, ram, array("I", numbers))) == [CityHash64(page(ram, n)) for n in numbers]


def test_every_kernel_gives_googles_hashes(lib, pool, ram):
    kernels = lib.hash_kernels()
    assert kernels[-2:] == ["pairs", "plain"] and set(kernels) <= {"avx512", "avx2", "pairs", "plain"}
    wanted = array("Q", (CityHash64(page(ram, n)) for n in ALL))
    for kernel in kernels:
        assert lib.hash_pages(pool, ram, ALL, kernel) == wanted


@given(page_sets, st.integers(), st.integers(0, 8 * PAGE_BYTES - 1))
@settings(max_examples=examples(50))
def test_every_kernel_hashes_any_group_of_pages_like_googles(lib, pool, few, numbers, seed, bit):
    few.map[:PAGE_BYTES] = random.Random(seed).randbytes(PAGE_BYTES)
    few.map[PAGE_BYTES : 4 * PAGE_BYTES] = bytes(2 * PAGE_BYTES) + b"\xff" * PAGE_BYTES
    few.map[PAGE_BYTES + bit // 8] = few.map[3 * PAGE_BYTES + bit // 8] = 1 << bit % 8
    index = array("I", (number % few.pages for number in numbers))
    wanted = [CityHash64(page(few, n)) for n in index]
    for kernel in lib.hash_kernels():
        assert list(lib.hash_pages(pool, few, index, kernel)) == wanted


@pytest.mark.parametrize("kernel", ["", "magic", "plain "])
def test_a_kernel_that_this_cpu_does_not_run_is_refused_never_replaced(lib, pool, ram, kernel):
    with pytest.raises(NativeError, match=f"hashing pages with kernel '{kernel}': Invalid argument"):
        lib.hash_pages(pool, ram, ALL, kernel)


@given(page_sets)
def test_gather_copies_the_pages_one_after_the_other(lib, ram, numbers):
    assert lib.gather(ram, array("I", numbers)) == b"".join(page(ram, n) for n in numbers)


@given(page_sets)
def test_nonzero_leaves_out_the_zero_pages(lib, ram, numbers):
    assert list(lib.nonzero(ram, array("I", numbers))) == [n for n in numbers if any(page(ram, n))]
    assert {7, 8}.isdisjoint(lib.nonzero(ram, ALL)) and len(lib.nonzero(ram, ALL)) == PAGES - 2


@given(st.lists(st.integers(0, PAGES - 1), max_size=10), st.integers())
@settings(max_examples=examples(30))
def test_apply_overwrites_these_pages_and_no_other_byte(lib, ram, numbers, seed):
    before = ram.map[:]
    data = random.Random(seed).randbytes(len(numbers) * PAGE_BYTES)
    model = bytearray(before)
    for at, number in enumerate(numbers):
        model[number * PAGE_BYTES : (number + 1) * PAGE_BYTES] = data[at * PAGE_BYTES : (at + 1) * PAGE_BYTES]
    for kind in (bytes, bytearray, memoryview):
        lib.apply(ram, array("I", numbers), kind(data))
        assert ram.map[:] == model
        ram.map[:] = before


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**32 - 1)), max_size=50))
def test_compare_gives_the_pages_whose_hashes_differ(lib, rows):
    a, b, index = (array(code, (row[n] for row in rows)) for n, code in ((0, "Q"), (1, "Q"), (2, "I")))
    assert list(lib.compare(a, b, index)) == [n for x, y, n in rows if x != y]
    assert list(lib.compare(a, b)) == [at for at, (x, y, _) in enumerate(rows) if x != y]


# --- blocks ---


def block_hash(block):
    """As native/src/pages/blocks.c does it: NH over pairs of words, folded."""
    keys = [
        0x6A09E667,
        0xBB67AE85,
        0x3C6EF372,
        0xA54FF53A,
        0x510E527F,
        0x9B05688C,
        0x1F83D9AB,
        0x5BE0CD19,
        0xCBBB9D5D,
        0x629A292A,
        0x9159015A,
        0x152FECD8,
        0x67332667,
        0x8EB44A87,
        0xDB0C2E0D,
        0x47B5481D,
    ]
    word = [w + key & 0xFFFFFFFF for w, key in zip(array("I", block), keys)]
    return sum(word[n] * word[n + 1] for n in range(0, 16, 2)) * 0x9E3779B97F4A7C15 >> 48 & 0xFFFF


@given(page_sets)
@settings(max_examples=examples(20))
def test_block_hashes_are_those_of_the_blocks_in_order(lib, pool, ram, numbers):
    blocks = [page(ram, n)[at : at + 64] for n in numbers for at in range(0, PAGE_BYTES, 64)]
    assert list(lib.block_hashes(pool, ram, array("I", numbers))) == list(map(block_hash, blocks))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, PAGE_BYTES - 1), st.integers(1, 255)), max_size=60), st.permutations(range(4)))
@settings(max_examples=examples(50))
def test_patched_pages_are_the_leaders_and_only_blocks_that_differ_are_taken(lib, pool, few, tmp_path_factory, changes, order):
    """``few`` is the leader's memory; the secondary's is the same but for some bytes."""

    def block(ram, n, k):
        return page(ram, n)[64 * k : 64 * k + 64]

    theirs = new_ram(tmp_path_factory.getbasetemp() / "theirs", 4)
    theirs.map[:] = few.map[:]
    for number, at, value in changes:
        theirs.map[number * PAGE_BYTES + at] ^= value
    before, index = theirs.map[:], array("I", order)
    masks = lib.block_masks(pool, few, index, lib.block_hashes(pool, theirs, index))
    differ = [sum((block(few, n, k) != block(theirs, n, k)) << k for k in range(64)) for n in order]
    assert list(masks) == differ and lib.count_blocks(masks) == sum(map(int.bit_count, differ))
    blocks = lib.gather_blocks(few, index, masks)
    assert blocks == b"".join(block(few, n, k) for n, mask in zip(order, masks) for k in range(64) if mask >> k & 1)
    for kind in (bytes, bytearray, memoryview):
        patched = lib.patch_pages(theirs, index, masks, kind(blocks))
        assert patched == lib.gather(few, index) and theirs.map[:] == before
    assert lib.hash_data(pool, patched) == lib.hash_pages(pool, few, index)
    theirs.close()


def test_blocks_that_do_not_fit_are_refused(lib, pool, few):
    index, masks = array("I", [1, 2]), array("Q", [1, 6])
    for data in (b"", bytes(64), bytes(191), bytes(256)):
        with pytest.raises(NativeError):
            lib.patch_pages(few, index, masks, data)
    for work in (
        lambda: lib.patch_pages(few, index, masks[:1], bytes(64)),
        lambda: lib.gather_blocks(few, index, masks[:1]),
        lambda: lib.block_masks(pool, few, index, array("H", bytes(2 * 127))),
        lambda: lib.hash_data(pool, bytes(4097)),
        lambda: lib.block_masks(pool, few, index, array("I", bytes(4 * 128))),
        lambda: lib.count_blocks(index),
        lambda: lib.gather_blocks(few, index, array("I", [1, 2])),
        lambda: lib.block_hashes(pool, few, masks),
    ):
        with pytest.raises(NativeError):
            work()
    for work in (
        lambda: lib.patch_pages(few, array("I", [9, 1]), masks, bytes(192)),
        lambda: lib.gather_blocks(few, array("I", [1, 4]), masks),
        lambda: lib.block_hashes(pool, few, array("I", [4])),
        lambda: lib.block_masks(pool, few, array("I", [4]), array("H", bytes(128))),
        lambda: lib.bitmap_of(array("I", [4]), 4),
    ):
        with pytest.raises(NativeError, match="out of range"):
            work()


# --- bitmaps ---


@given(st.integers(1, 400).flatmap(lambda bits: st.tuples(st.just(bits), st.sets(st.integers(0, bits - 1)))))
def test_the_bitmap_of_numbers_has_them_set_and_no_other(lib, case):
    bits, numbers = case
    assert lib.bitmap_of(array("I", numbers), bits) == bitmap_of(numbers, bits)


@given(st.integers(1, 400).flatmap(lambda pages: st.tuples(st.just(pages), *2 * [st.sets(st.integers(0, pages - 1))])))
def test_union_and_its_pages_are_those_of_the_sets(lib, case):
    pages, ours, theirs = case
    union, other = bitmap_of(ours, pages), bytes(bitmap_of(theirs, pages))
    assert lib.bitmap_union(union, other) == len(ours | theirs)
    assert union == bitmap_of(ours | theirs, pages) and other == bitmap_of(theirs, pages)
    assert list(lib.bitmap_pages(union, pages)) == sorted(ours | theirs)
    assert list(lib.bitmap_pages(bytes(union), pages)) == sorted(ours | theirs)


# --- bad arguments ---


@pytest.mark.parametrize("number", [PAGES, PAGES + 1, 2**31, 2**32 - 1])
def test_a_page_outside_the_guest_is_refused_before_a_byte_is_touched(lib, pool, ram, number):
    before, index = ram.map[:], array("I", [0, number, 1])
    for work in (
        lambda: lib.hash_pages(pool, ram, index),
        lambda: lib.gather(ram, index),
        lambda: lib.nonzero(ram, index),
        lambda: lib.apply(ram, index, b"x" * 3 * PAGE_BYTES),
    ):
        with pytest.raises(NativeError, match="out of range"):
            work()
    assert ram.map[:] == before


@pytest.mark.parametrize("index", [array("H", [1, 2]), array("Q", [1]), array("B"), [1, 2], b"1234", None], ids=repr)
def test_page_numbers_of_another_type_are_refused(lib, pool, ram, index):
    for work in (
        lambda: lib.hash_pages(pool, ram, index),
        lambda: lib.gather(ram, index),
        lambda: lib.nonzero(ram, index),
        lambda: lib.apply(ram, index, bytes(PAGE_BYTES * len(index))),
        lambda: lib.compare(array("Q", len(index) * [1]), array("Q", len(index) * [1]), index),
    ):
        with pytest.raises((NativeError, TypeError)):
            work()


@pytest.mark.parametrize(
    "a, b, words",
    [
        (array("Q", [1]), array("Q", [1, 2]), "1 and 2 hashes for 2 pages"),
        (array("Q"), array("Q"), "0 and 0 hashes for 2 pages"),
        (array("I", [1, 2]), array("Q", [1, 2]), "no array of type 'Q'"),
        (array("Q", [1, 2]), b"12", "no array of type 'Q'"),
    ],
    ids=["unequal", "none", "narrow", "bytes"],
)
def test_hashes_that_do_not_fit_are_refused(lib, a, b, words):
    with pytest.raises(NativeError, match=words):
        lib.compare(a, b, array("I", [1, 2]))
    if len(a):
        with pytest.raises(NativeError):
            lib.compare(a, b)


@pytest.mark.parametrize("length", [0, 1, 2 * PAGE_BYTES - 1, 2 * PAGE_BYTES + 1, 3 * PAGE_BYTES])
def test_page_contents_of_another_length_are_refused(lib, ram, length):
    with pytest.raises(NativeError, match=f"{length} bytes for 2 pages"):
        lib.apply(ram, array("I", [1, 2]), bytes(length))


def test_bitmaps_that_do_not_fit_are_refused(lib):
    for a, b in ((8, 16), (0, 8), (7, 7), (12, 12)):
        with pytest.raises(NativeError, match=f"bitmaps of {a} and {b} bytes; need equal whole words"):
            lib.bitmap_union(bytearray(a), bytes(b))
    with pytest.raises(NativeError, match="read-only"):
        lib.bitmap_union(memoryview(bytes(8)), bytes(8))
    for length in (0, 8, 39, 48):
        with pytest.raises(NativeError, match=f"bitmap of {length} bytes for {PAGES} pages"):
            lib.bitmap_pages(bytes(length), PAGES)
    with pytest.raises(NativeError, match="bitmap: Invalid argument"):  # a bit behind the last page
        lib.bitmap_pages(bitmap_of([PAGES], 320), PAGES)


@pytest.mark.parametrize("threads", [1025, 2**32 - 1, -1])
def test_too_many_threads_are_refused_with_the_settings_name(lib, threads):
    with pytest.raises(NativeError, match="syncvm_hash_threads: cannot start"):
        lib.pool(threads)


def test_guest_memory_of_another_size_is_refused(tmp_path):
    for size in (0, PAGE_BYTES, 2 * PAGE_BYTES - 1, 3 * PAGE_BYTES):
        (tmp_path / "ram").write_bytes(bytes(size))
        with pytest.raises(NativeError, match=f"guest RAM of {size} bytes, the settings say 8192; make guest_mem"):
            GuestRam(str(tmp_path / "ram"), 2)
    with pytest.raises(NativeError, match="none: No such file or directory; is QEMU running"):
        GuestRam(str(tmp_path / "none"), 2)


def test_a_library_that_is_missing_or_none_is_refused(tmp_path, monkeypatch):
    with pytest.raises(NativeError, match="role 'native' installs it"):
        Native(tmp_path)
    (tmp_path / "libplover_native.so").write_bytes(b"\x7fELF nonsense")
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(tmp_path))
    with pytest.raises(NativeError, match=str(tmp_path)):
        native.load()
    monkeypatch.setattr(native, "ABI", native.ABI + 1)
    with pytest.raises(NativeError, match=f"ABI {native.ABI - 1}, this runtime needs {native.ABI}; deploy both together"):
        Native(BUILD)
