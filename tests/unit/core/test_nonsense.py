# SPDX-License-Identifier: GPL-3.0-or-later
"""Well-formed messages that make no sense, at every moment of a member's life: refused as what they are, or passed over."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plover.errors import WireError
from plover.native import zstd
from plover.protocol import wire
from plover.protocol.packing import pack_state
from plover.syncvm.staging import chain_digest

from tests.examples import examples
from tests.sim.guest import BYTES, SimMemory
from tests.sim.rig import Rig, at

pytestmark = pytest.mark.usefixtures("small_pages")

DEVICE = pack_state(zstd, b"device", b"")
PAGE = 4 + BYTES  # on the wire, with its number


@given(payload=st.binary(max_size=60))
@example(payload=b"")
@example(payload=b"{")
@example(payload=b"\xff\xfe")
@example(payload=b"null")
@example(payload=b'"qemu_version"')
@example(payload=b"[" * 100_000)
@settings(max_examples=examples(20))
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
