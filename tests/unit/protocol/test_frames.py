# SPDX-License-Identifier: GPL-3.0-or-later
"""Ethernet frames in QEMU's framing, and batches of guest pages: there and back, and what is refused."""

from __future__ import annotations

import ipaddress
import struct
from array import array

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plover.errors import QemuError, WireError
from plover.protocol import frames, pages
from plover.protocol.frames import FRAME_BYTES_MAX, FrameBuffer, announcements, by_card, marked, pieces, split, whole, wrap

from tests.examples import examples

some_frames = st.lists(st.binary(min_size=1, max_size=60), max_size=8)


# --- frames ---


@given(some_frames)
def test_frames_come_back_as_they_were_sent(sent):
    assert [bytes(frame) for frame in split(b"".join(map(wrap, sent)))] == sent


@given(some_frames, st.data())
def test_the_cuts_of_the_socket_do_not_matter(sent, data):
    stream = b"".join(map(wrap, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    buffer, got = FrameBuffer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)]):
        run = buffer.feed(stream[start:end])
        got += [bytes(frame) for frame in split(run)]
        assert b"".join(map(wrap, got)) == stream[: len(b"".join(map(wrap, got)))]
    assert got == sent


@given(some_frames.filter(bool))
@settings(max_examples=examples(20))
def test_a_frame_is_handed_out_with_its_last_byte_and_not_before(sent):
    buffer, stream = FrameBuffer(), b"".join(map(wrap, sent))
    ends = {sum(len(wrap(f)) for f in sent[:n]): wrap(sent[n - 1]) for n in range(1, len(sent) + 1)}
    for at in range(len(stream)):
        assert buffer.feed(stream[at : at + 1]) == ends.get(at + 1, b"")


def test_the_longest_frame_passes_and_a_longer_one_is_refused():
    longest = wrap(bytes(FRAME_BYTES_MAX))
    assert FrameBuffer().feed(longest) == longest
    with pytest.raises(QemuError, match=f"frame of {FRAME_BYTES_MAX + 1} bytes; the network socket is out of step"):
        FrameBuffer().feed(wrap(bytes(FRAME_BYTES_MAX + 1)))


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2**31, 2**32 - 1])
def test_a_length_that_no_frame_has_is_refused_at_once(length):
    for before in (b"", wrap(b"good")):
        with pytest.raises(QemuError, match=f"frame of {length} bytes"):
            FrameBuffer().feed(before + frames.LENGTH.pack(length))


@given(st.lists(st.binary(max_size=50), max_size=20))
@settings(max_examples=examples(150))
def test_random_bytes_are_whole_frames_or_refused_and_are_not_piled_up(chunks):
    buffer, fed, got = FrameBuffer(), b"", b""
    for chunk in chunks:
        try:
            run = buffer.feed(chunk)
        except QemuError as error:
            assert "out of step" in str(error)
            return
        fed += chunk
        got += run
        assert b"".join(wrap(bytes(frame)) for frame in split(run)) == run
        assert fed.startswith(got) and len(buffer._rest) == len(fed) - len(got) < FRAME_BYTES_MAX + 4


@given(st.lists(st.tuples(st.integers(0, 7), st.binary(min_size=1, max_size=60)), max_size=8))
def test_a_run_of_several_cards_is_cut_where_the_card_changes(sent):
    run = b"".join(wrap(frame, card) for card, frame in sent)
    cut = list(by_card(run))
    assert b"".join(part for _card, part in cut) == run and whole(run, 8)
    assert [(card, bytes(frame)) for card, part in cut for frame in split(part)] == sent
    assert all(before[0] != after[0] for before, after in zip(cut, cut[1:]))
    assert [bytes(frame) for frame in split(run)] == [frame for _card, frame in sent] and b"".join(pieces(run)) == run
    assert whole(run, 1 + max((card for card, _frame in sent), default=0))
    assert not sent or not whole(run, max(card for card, _frame in sent))
    for card, part in cut:
        assert marked(marked(part, 0), card) == part


@given(some_frames, st.integers(0, 7))
def test_what_a_card_sends_is_marked_and_the_mark_taken_off_for_qemu(sent, card):
    from_qemu = b"".join(map(wrap, sent))
    run = FrameBuffer(card).feed(from_qemu)
    assert run == b"".join(wrap(frame, card) for frame in sent) and marked(run, 0) == from_qemu


@pytest.mark.parametrize(
    "run", [b"\0", b"\0\0\0\1", b"\0\0\0\0", b"\2\0\0\1x", b"\0\1\x10\1" + bytes(69_633), wrap(b"x") + b"\0\0\0\2y"], ids=len
)
def test_what_is_no_run_of_whole_frames_of_two_cards_is_told(run):
    assert not whole(run, 2)


def test_what_is_kept_is_less_than_a_frame():
    buffer = FrameBuffer()
    stream = wrap(bytes(1500)) * 3000
    handed_out = 0
    for at in range(0, len(stream), 65_536):
        handed_out += len(buffer.feed(stream[at : at + 65_536]))
        assert len(buffer._rest) < 1504
    assert handed_out == len(stream)


@given(st.binary(min_size=6, max_size=6), st.lists(st.ip_addresses(v=4), max_size=4))
@example(bytes.fromhex("525400706c01"), [ipaddress.IPv4Address("10.77.0.5")])
def test_announcements_are_broadcast_frames_that_say_where_the_vm_is(hardware, addresses):
    out = announcements(hardware.hex(":"), [str(a) for a in addresses])
    assert len(out) == len(addresses) + 1
    for frame, address in zip(out, [*addresses, None]):
        assert len(frame) == 60 and frame[:6] == b"\xff" * 6 and frame[6:12] == hardware
        kind, *fixed, op, sender, sender_ip, target, target_ip = struct.unpack("!HHHBBH6s4s6s4s", frame[12:42])
        assert (fixed, sender) == ([1, 0x0800, 6, 4], hardware)
        if address is None:  # RARP, request reverse: for VMs whose addresses we do not know
            assert (kind, op, target, sender_ip, target_ip) == (0x8035, 3, hardware, bytes(4), bytes(4))
        else:  # gratuitous ARP request
            assert (kind, op, sender_ip, target_ip) == (0x0806, 1, address.packed, address.packed)
        assert frame[42:] == bytes(18)


# --- pages on the wire ---

GUEST = 100  # pages


@st.composite
def batches(draw):
    index = array("I", draw(st.lists(st.integers(0, GUEST - 1), max_size=5, unique=True)))
    return index, b"".join(bytes([page + 1]) * pages.PAGE_BYTES for page in index)


@given(batches())
def test_pages_come_back_as_they_were_sent(batch):
    index, data = batch
    got_index, got_data = pages.unpack(len(index), pages.pack(index, data), GUEST)
    assert got_index == index and got_data == data


@given(batches(), st.integers(0, 2**32 - 1), st.integers(-5000, 5000))
def test_a_batch_of_another_length_than_announced_is_refused(batch, count, more):
    index, data = batch
    payload = pages.pack(index, data)
    payload = payload + bytes(more) if more >= 0 else payload[:more]
    if len(payload) == count * 4100:
        return
    with pytest.raises(WireError, match=f"{count} pages announced, {len(payload)} bytes came"):
        pages.unpack(count, payload, GUEST)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 4095, 4096, 4099, 4101, 8200])
def test_one_page_of_another_length_is_refused(length):
    with pytest.raises(WireError, match=f"1 pages announced, {length} bytes came"):
        pages.unpack(1, bytes(length), GUEST)


@pytest.mark.parametrize("page", [GUEST, GUEST + 1, 2**31, 2**32 - 1])
def test_a_page_outside_the_guest_is_refused(page):
    for index in (array("I", [page]), array("I", [0, page, 1])):
        payload = pages.pack(index, bytes(4096 * len(index)))
        with pytest.raises(WireError, match=f"page {page} is outside the guest's {GUEST} pages; guest_memory_mib"):
            pages.unpack(len(index), payload, GUEST)
    last = array("I", [GUEST - 1])
    assert pages.unpack(1, pages.pack(last, bytes(4096)), GUEST)[0] == last


@given(st.lists(st.sampled_from([0, 1, GUEST - 1, GUEST, 2**31, 2**32 - 1]), max_size=4), st.binary(max_size=64))
def test_any_page_numbers_are_of_the_guest_or_refused(index, start):
    payload = array("I", index).tobytes() + start.ljust(4096 * len(index), b"x")
    try:
        got, data = pages.unpack(len(index), payload, GUEST)
    except WireError:
        assert any(page >= GUEST for page in index) or (start and not index)
    else:
        assert list(got) == index and all(page < GUEST for page in index) and len(data) == 4096 * len(index)


@given(st.integers(1, 2000), st.integers(0, 400))
def test_a_bitmap_has_whole_words_for_all_pages_and_no_more(guest, length):
    need = -(-guest // 64) * 8
    pages.check_bitmap(bytes(need), guest)
    if length != need:
        with pytest.raises(WireError, match=f"bitmap of {length} bytes for {guest} pages"):
            pages.check_bitmap(bytes(length), guest)
    if guest % 64:
        with pytest.raises(WireError, match="bits behind the last one"):
            pages.check_bitmap(bytes(need - 1) + b"\x80", guest)


def test_all_pages_are_all_pages():
    assert list(pages.all_pages(5)) == [0, 1, 2, 3, 4] and pages.all_pages(5).itemsize == 4
