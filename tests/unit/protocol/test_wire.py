# SPDX-License-Identifier: GPL-3.0-or-later
"""The codec between members: every message comes back as it was sent, and nothing else comes through."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import fields

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plover.errors import WireError
from plover.protocol import codec, wire

from tests.examples import examples

TAG = codec.cluster_tag("6f9619ff-8b86-4d01-b42d-00cf4fc964ff")
FIELD = {
    "Q": st.integers(0, 2**64 - 1),
    "I": st.integers(0, 2**32 - 1),
    "H": st.integers(0, 2**16 - 1),
    "B": st.integers(0, 255),
    "?": st.booleans(),
}
TYPES = sorted(wire.Message.__subclasses__(), key=lambda cls: cls.TYPE)
each_type = pytest.mark.parametrize("cls", TYPES, ids=lambda cls: cls.__name__)


def messages(cls, payload=300):
    """Any message of ``cls``, derived from its own description."""
    codes = cls.FMT[1:]
    names = [f.name for f in fields(cls)]
    assert set(codes) <= set(FIELD) and len(names) - len(codes) == ("payload" in names), f"{cls.__name__}: describe it here"
    values = {name: FIELD[code] for name, code in zip(names, codes)}
    return st.builds(cls, **values, **({"payload": st.binary(max_size=payload)} if "payload" in names else {}))


any_message = st.one_of([messages(cls) for cls in TYPES])


def sent(message, tag=TAG):
    return b"".join(codec.encode(message, tag))


def decode(data, tag=TAG):
    """All messages of ``data``, which must end with the last."""
    decoder = codec.Decoder(tag)
    out = list(decoder.feed(data))
    decoder.end()
    return out


def refused_or_understood(data):
    """Decode; only WireError may come out of it. Returns the messages, None if it was refused."""
    try:
        return decode(data)
    except WireError as error:
        assert str(error)
        return None


def header(magic=codec.MAGIC, version=codec.VERSION, kind=wire.Heartbeat.TYPE, zero=0, tag=TAG, length=0):
    return codec.HEADER.pack(magic, version, kind, zero, tag, length)


def test_every_message_type_has_a_number_of_its_own():
    assert len({cls.TYPE for cls in TYPES}) == len(TYPES) > 15
    assert all(0 < cls.TYPE < 256 for cls in TYPES)


@each_type
@given(data=st.data())
@settings(max_examples=examples(25))
def test_a_message_comes_back_as_it_was_sent(cls, data):
    message = data.draw(messages(cls))
    (back,) = decode(sent(message))
    assert back == message and type(back) is cls


@given(st.lists(any_message, max_size=6), st.data())
def test_the_cuts_of_the_network_do_not_matter(wanted, data):
    stream = b"".join(map(sent, wanted))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, got = codec.Decoder(TAG), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)]):
        got += decoder.feed(stream[start:end])
    decoder.end()
    assert got == wanted


@each_type
@given(data=st.data())
@settings(max_examples=examples(3))
def test_a_message_cut_at_any_length_is_waited_for_and_then_refused(cls, data):
    whole = sent(data.draw(messages(cls, payload=40)))
    for length in range(1, len(whole)):
        decoder = codec.Decoder(TAG)
        assert list(decoder.feed(whole[:length])) == []
        with pytest.raises(WireError, match=f"truncated message: {length} bytes"):
            decoder.end()


@each_type
def test_a_body_of_another_length_than_the_fields_need_is_refused(cls):
    size = struct.calcsize(cls.FMT)
    fixed = all(f.name != "payload" for f in fields(cls))
    for length in {*range(size), *((size + 1, size + 1000) if fixed else ())}:
        with pytest.raises(WireError, match=f"{cls.__name__} has {length} bytes, expected {size}"):
            decode(header(kind=cls.TYPE, length=length) + bytes(length))


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"magic": b"HTTP"}, "not a Plover message.*'port' used by something else"),
        ({"magic": b"PLVS"}, "not a Plover message"),
        ({"version": codec.VERSION + 1}, f"protocol version {codec.VERSION + 1}, this host speaks {codec.VERSION}; install one"),
        ({"version": 0}, "protocol version 0"),
        ({"tag": TAG ^ 1}, "another cluster; 'cluster_id' and 'port'"),
        ({"tag": codec.cluster_tag("another")}, "another cluster"),
        ({"zero": 1}, "unknown message type"),
        ({"length": codec.BODY_BYTES_MAX + 1}, f"over the limit of {codec.BODY_BYTES_MAX}"),
        ({"length": 2**32 - 1}, "over the limit"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_header_is_refused_before_its_body_is_waited_for(wrong, words):
    with pytest.raises(WireError, match=words):
        list(codec.Decoder(TAG).feed(header(**wrong)))


def test_a_message_of_an_unknown_type_is_refused():
    for kind in set(range(256)) - {cls.TYPE for cls in TYPES}:
        with pytest.raises(WireError, match=f"unknown message type {kind}$"):
            list(codec.Decoder(TAG).feed(header(kind=kind)))


def test_what_follows_a_good_message_is_judged_by_itself():
    decoder, good = codec.Decoder(TAG), wire.TransferLeadership(3)
    stream = decoder.feed(sent(good) + header(magic=b"junk") + sent(good))
    assert next(stream) == good
    with pytest.raises(WireError, match="not a Plover message"):
        next(stream)


@given(st.binary(max_size=400))
@example(b"")
@example(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
@settings(max_examples=examples(150))
def test_random_bytes_never_become_a_message(data):
    assert refused_or_understood(data) in (None, [])


@given(st.integers(0, 255), st.integers(0, 500), st.binary(max_size=500))
@settings(max_examples=examples(150))
def test_random_bytes_behind_a_good_header_are_refused_or_understood(kind, length, body):
    for message in refused_or_understood(header(kind=kind, length=length) + body) or []:
        assert type(decode(sent(message))[0]) is type(message)


@given(any_message)
@settings(max_examples=examples(15))
def test_a_flipped_bit_in_the_header_is_refused_or_another_type(message):
    whole = sent(message)
    for bit in range(8 * codec.HEADER.size):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        got = refused_or_understood(bytes(flipped))
        if got is not None:
            assert bit // 8 == 5 and type(got[0]) is not type(message)  # byte 5 is the type


@given(any_message, st.data())
def test_a_flipped_bit_in_the_body_is_another_message_of_the_same_type(message, data):
    whole = bytearray(sent(message))
    if len(whole) == codec.HEADER.size:
        return
    bit = data.draw(st.integers(8 * codec.HEADER.size, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    (got,) = decode(bytes(whole))
    assert type(got) is type(message)
    assert got != message or "?" in message.FMT  # any byte but 0 is true


@each_type
@given(data=st.data())
@settings(max_examples=examples(4))
def test_any_byte_of_a_stream_may_be_another_wherever_the_network_cuts_it(cls, data):
    """Between two good messages: refused, or messages; never another error, and what came before is not touched."""
    before, message, after = (data.draw(messages(one, payload=30)) for one in (wire.Staged, cls, wire.Applied))
    whole = b"".join(map(sent, (before, message, after)))
    cut = data.draw(st.integers(0, len(whole)))
    for at in range(len(sent(before)), len(whole)):
        spoilt = bytearray(whole)
        spoilt[at] ^= data.draw(st.integers(1, 255)) if at % 8 == 0 else 0x81
        decoder, got = codec.Decoder(TAG), []
        try:
            for piece in (spoilt[:cut], spoilt[cut:]):
                got.extend(decoder.feed(bytes(piece)))
            decoder.end()
        except WireError as error:
            assert str(error)
        assert got[0] == before and all(isinstance(m, wire.Message) for m in got)


@given(any_message, st.data())
def test_bytes_that_are_missing_or_too_many_are_refused_or_understood(message, data):
    whole = sent(message)
    at, count = data.draw(st.integers(0, len(whole))), data.draw(st.integers(1, 40))
    refused_or_understood(whole[:at] + whole[at + count :])
    refused_or_understood(whole[:at] + data.draw(st.binary(min_size=count, max_size=count)) + whole[at:])


def test_a_message_over_the_limit_is_not_sent():
    payload = bytes(codec.BODY_BYTES_MAX)
    assert len(codec.encode(wire.Hello(payload), TAG)) == 2
    with pytest.raises(WireError, match="FillPages of .* over the limit"):
        codec.encode(wire.FillPages(1, 1, 1, payload), TAG)


def test_a_payload_is_sent_without_a_copy():
    payload = bytes(100_000)
    assert codec.encode(wire.Hello(payload), TAG)[1] is payload


def test_a_peer_that_sends_without_end_fills_no_more_than_one_message(monkeypatch):
    limit = 1 << 20
    monkeypatch.setattr(codec, "BODY_BYTES_MAX", limit)
    chunk = header(kind=wire.Hello.TYPE, length=limit) + bytes(limit)
    tracemalloc.start()
    try:
        decoder, bodies = codec.Decoder(TAG), 0
        for _ in range(10):
            for at in range(0, len(chunk), 50_000):
                bodies += sum(len(m.payload) for m in decoder.feed(chunk[at : at + 50_000]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bodies == 10 * limit
    assert peak < 3.5 * limit  # what is buffered and its growth, and one body handed out


def test_after_an_endless_body_was_announced_nothing_is_kept():
    decoder = codec.Decoder(TAG)
    with pytest.raises(WireError):
        list(decoder.feed(header(kind=wire.Hello.TYPE, length=codec.BODY_BYTES_MAX + 1) + bytes(1000)))
    with pytest.raises(WireError):  # a caller that goes on all the same gets nowhere
        list(decoder.feed(sent(wire.TransferLeadership(1))))


@given(st.text(), st.text())
def test_the_tag_is_a_u32_that_depends_on_the_cluster_only(one, other):
    assert 0 <= codec.cluster_tag(one) == codec.cluster_tag(one) < 2**32
    if codec.cluster_tag(one) != codec.cluster_tag(other):
        with pytest.raises(WireError, match="another cluster"):
            decode(sent(wire.TransferLeadership(1), codec.cluster_tag(one)), codec.cluster_tag(other))
