# SPDX-License-Identifier: GPL-3.0-or-later
"""Well-formed messages that make no sense, at every moment of a member's life: refused as what they are, or passed over."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plover.consensus.log import INPUT, SYNCVM, Entry, pack
from plover.errors import WireError
from plover.native import zstd
from plover.protocol import sayings, wire
from plover.protocol.packing import pack_state
from plover.syncvm.staging import chain_digest

from tests.sim.guest import BYTES, PAGES, SimMemory
from tests.sim.rig import Rig

pytestmark = pytest.mark.usefixtures("small_pages")

# The greetings never get past the links: see links/test_peers.py.
TYPES = [cls for cls in sorted(wire.Message.__subclasses__(), key=lambda cls: cls.TYPE) if cls not in wire.GREETINGS]
EXAMPLES = 20
DATA_TYPES = (
    wire.FillPages,
    wire.FillState,
    wire.FillDone,
    wire.Bitmap,
    wire.Hashes,
    wire.Divergent,
    wire.BlockHashes,
    wire.StageBlocks,
    wire.StagePages,
    wire.StageEnd,
    wire.Resend,
    wire.Staged,
    wire.Applied,
    wire.LateInput,
    wire.Said,
)
CONSENSUS_TYPES = (wire.Heartbeat, wire.HeartbeatAck, wire.ProposeRecord, wire.Append, wire.AppendAck, wire.VoteRequest, wire.VoteReply)
DEVICE = pack_state(zstd, b"device", b"")
PAGE = 4 + BYTES  # on the wire, with its number
COUNTABLE = 2**62  # no number of ours gets further by counting


def at(moment: str) -> Rig:
    """A group that is protected; in the middle of a syncvm; while the secondary is filled; without its leader."""
    group = Rig()
    if moment == "fill":
        return group.until(lambda: group["secondary"].core.role.fill is not None)
    group.until(group.protected)
    if moment == "syncvm":
        group.send(5)
        group.until(lambda: group["primary"].core.role.syncvm and group["secondary"].core.role.syncvm)
    elif moment == "leaderless":
        group.kill("primary")
        group.run(0.05)
    return group


def plausible(cls, view):
    """Messages of ``cls``, often of the present view, number and join; payloads often well-formed."""
    numbers = st.sampled_from([0, 1, 2, 3]) | st.integers(0, COUNTABLE)
    kinds = {"Q": numbers, "I": st.integers(0, 3), "B": st.integers(0, 255), "?": st.booleans()}
    values = {field.name: kinds[code] for field, code in zip(fields(cls), cls.FMT[1:])}
    if "view" in values:
        values["view"] = st.just(view) | st.integers(0, view + 2)
    if "payload" in cls.__dataclass_fields__:
        rows = st.tuples(st.integers(0, 9), st.integers(0, view + 1), st.sampled_from([INPUT, SYNCVM]))
        logs = st.lists(rows, max_size=3).map(lambda rows: pack(Entry(i, v, k, bytes(8)) for i, v, k in rows))
        pages = st.sampled_from([bytes(PAGES // 8), bytes(PAGE), b"\xff" * PAGE])
        said = st.sampled_from([sayings.pack(sayings.Saying(kind, 0, 3, 1, 5, 6)) for kind in (sayings.SPAN, sayings.ENDS)])
        values["payload"] = st.binary(max_size=40) | logs | pages | said | st.sampled_from([b"{}", b"[]"])
    return st.builds(cls, **values)


def harmless(deliver, *arguments):
    """Only a refusal may come out of it."""
    try:
        deliver(*arguments)
    except WireError as error:
        assert str(error)


@pytest.mark.parametrize("moment", ["protected", "syncvm", "fill", "leaderless"])
@pytest.mark.parametrize("name", ["primary", "secondary", "witness"])
@given(data=st.data())
@settings(max_examples=EXAMPLES)
def test_any_message_at_any_moment_is_understood_or_refused(moment, name, data):
    group = at(moment)
    group.on_purpose = ""  # a forged message may undo what the onlooker knows
    seat = group[name]
    for _ in range(3):
        cls = data.draw(st.sampled_from(TYPES if seat.core else CONSENSUS_TYPES))
        message = data.draw(plausible(cls, seat.consensus.view))
        src = data.draw(st.sampled_from(sorted(set(group.members) - {name})))
        if seat.core is None:
            harmless(seat.consensus.receive, group.now, src, message)
        elif cls in DATA_TYPES or data.draw(st.booleans()):
            harmless(seat.core.data, message)
        else:
            harmless(seat.core.control, src, message)
        harmless(seat.member.run)
        harmless(group.run, 0.001)


@given(payload=st.binary(max_size=60))
@example(payload=b"")
@example(payload=b"{")
@example(payload=b"\xff\xfe")
@example(payload=b"null")
@example(payload=b'"qemu_version"')
@example(payload=b"[" * 100_000)
@settings(max_examples=20)
def test_a_join_request_that_is_no_json_is_refused_and_the_leader_serves_on(payload):
    group = Rig()
    group.kill("secondary")
    group.until(lambda: group.serving() is not None)
    leader = group.serving()
    request = wire.JoinRequest(leader.consensus.view, payload)
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        with pytest.raises(WireError, match="join request"):
            leader.core.control("secondary", request)
    else:
        leader.core.control("secondary", request)
        assert "cannot join" in leader.core.leading.reprotection.note
    leader.member.run()
    assert leader.core.leading.fill is None
    assert group.write(7, 1.0) is leader


def test_a_message_of_nobody_we_know_is_refused():
    group = at("protected")
    with pytest.raises(WireError, match="unknown member 'stranger'"):
        group["witness"].consensus.receive(group.now, "stranger", wire.TransferLeadership(1))


@pytest.mark.parametrize("mask", [0b1000, 0b11111111])
def test_a_record_that_names_members_that_do_not_exist_is_refused(mask):
    group = at("protected")
    cons = group["witness"].consensus
    before = cons.record
    with pytest.raises(WireError, match="names members that do not exist"):
        cons.receive(group.now, "primary", wire.ProposeRecord(cons.view, cons.view, 99, mask))
    assert cons.record == before


# --- the secondary's staging: nothing touches guest memory unless the whole syncvm is here and verified ---


def at_stage():
    """A group whose secondary waits for the pages of a syncvm, and that syncvm."""
    group = at("syncvm")
    secondary = group["secondary"]
    group.until(lambda: secondary.core.role.syncvm.phase == "stage", 1.0)
    return group, secondary, secondary.core.role.syncvm


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda v, n: wire.StagePages(v, n, 2, bytes(PAGE)), "2 pages announced, 12 bytes came"),
        (lambda v, n: wire.StagePages(v, n, 1, b"\xff" * PAGE), "outside the guest's"),
        (lambda v, n: wire.StagePages(v, n, 60, bytes(PAGE) * 60), "60 pages staged, only"),
        (lambda v, n: wire.StageEnd(v, n, 0, 12345, 0, 6, DEVICE), "do not fit the leader's digest"),
        (lambda v, n: wire.StageEnd(v, n, 1, chain_digest(SimMemory(), 0, b"device"), 0, 6, DEVICE), "1 pages announced"),
        (lambda v, n: wire.StageEnd(v, n, 0, 1, 0, 7, DEVICE), "device state: .* unpack to 6, not to 7"),
        (lambda v, n: wire.StageEnd(v, n, 0, 1, 0, 5, DEVICE), "device state: .* do not unpack to 5"),
        (lambda v, n: wire.StageEnd(v, n, 0, 1, 0, 6, DEVICE + b"x"), "device state: .* do not unpack to 6"),
        (lambda v, n: wire.StageEnd(v, n, 0, 1, 0, 6, DEVICE[:-1]), "device state: .* do not unpack to 6"),
        (lambda v, n: wire.StageEnd(v, n, 0, 1, 0, 6, b"device"), "device state: .* no frame"),
        (lambda v, n: wire.StageEnd(v, n, 0, 1, 0, 2**32 - 1, DEVICE), "the limit is"),
        (lambda v, n: wire.Divergent(v, n, b"1234567"), "bitmap of 7 bytes"),
        (lambda v, n: wire.Divergent(v, n, bytes(8)), "blocks of 0 pages asked for"),
        (lambda v, n: wire.Divergent(v, n, b"\xff" * 8), "bits behind the last one"),
        (lambda v, n: wire.StageBlocks(v, n, 1, bytes(16)), "not asked for"),
        (lambda v, n: wire.Bitmap(v, n, False, bytes(8)), "second dirty bitmap"),
        (lambda v, n: wire.Applied(v, n), "Applied sent to a secondary"),
    ],
    ids=[
        "short",
        "outside",
        "too-many",
        "wrong-digest",
        "wrong-count",
        "state-short",
        "state-long",
        "state-more",
        "state-cut",
        "state-not-packed",
        "state-size",
        "divergent-short",
        "divergent-none",
        "divergent-behind",
        "blocks-unasked",
        "second-bitmap",
        "wrong-way",
    ],
)
def test_a_spoilt_syncvm_is_refused_before_it_touches_guest_memory(spoil, words):
    group, secondary, syncvm = at_stage()
    before = list(secondary.memory.ram)
    with pytest.raises(WireError, match=words):
        secondary.core.data(spoil(syncvm.view, syncvm.number))
    assert secondary.memory.ram == before
    assert not [a for a in secondary.core.take() if "Staged" in repr(a)]


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda v, n: wire.Staged(v, n), "Staged in phase"),
        (lambda v, n: wire.Applied(v, n), "Applied in phase"),
        (lambda v, n: wire.Hashes(v, n, False, b"1234567"), "Hashes in phase"),
        (lambda v, n: wire.BlockHashes(v, n, bytes(256)), "BlockHashes in phase"),
        (lambda v, n: wire.Resend(v, n, True), "Resend in phase"),
        (lambda v, n: wire.Bitmap(v, n, False, bytes(7)), "dirty bitmap: .* no frame"),
        (lambda v, n: wire.Bitmap(v, n, False, zstd.compress(bytes(9))), "do not unpack to 8"),
        (lambda v, n: wire.Bitmap(v, n, False, zstd.compress(bytes(64 << 20))), "do not unpack to 8"),
        (lambda v, n: wire.StagePages(v, n, 1, bytes(PAGE)), "StagePages sent to a leader"),
    ],
    ids=[
        "staged-too-early",
        "applied-too-early",
        "odd-hashes",
        "block-hashes",
        "resend",
        "bitmap-not-packed",
        "bitmap-long",
        "bitmap-huge",
        "wrong-way",
    ],
)
def test_an_early_or_odd_answer_releases_nothing(spoil, words):
    group = at("syncvm")
    leader = group["primary"]
    syncvm, before = leader.core.role.syncvm, list(leader.released)
    with pytest.raises(WireError, match=words):
        leader.core.data(spoil(syncvm.view, syncvm.number))
    leader.member.run()
    assert leader.released == before


def test_messages_of_another_view_or_syncvm_are_passed_over():
    group, secondary, syncvm = at_stage()
    for view, number in ((syncvm.view - 1, syncvm.number), (syncvm.view, syncvm.number + 1)):
        secondary.core.data(wire.StageEnd(view, number, 0, 1, 0, 5, b"wrong"))
        secondary.core.data(wire.Divergent(view, number, b"wrong"))
        secondary.core.data(wire.StageBlocks(view, number, 9, b"wrong"))
        secondary.core.data(wire.StagePages(view, number, 9, b"wrong"))
    group.until(group.protected)
    group.until(lambda: group["primary"].core.figures is not None)
