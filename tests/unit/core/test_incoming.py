# SPDX-License-Identifier: GPL-3.0-or-later
"""Group commit: frames wait in the TAP while an entry is on its way, in order, and not for long."""

from __future__ import annotations

import pytest
from plover.consensus.log import INPUT
from plover.core.incoming import WAIT_S_MAX
from plover.protocol import wire

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")
TICK_S = 0.006


@pytest.fixture
def group():
    group = protected()
    group.run(0.05)
    return group


def ordered(group, since: int) -> list[bytes]:
    """What the entries of input after ``since`` hold, as far as the log still has them."""
    log = group["primary"].consensus.log
    entries = [log[index] for index in range(max(since, log.base_index) + 1, log.last_index + 1)]
    return [bytes(entry.payload) for entry in entries if entry.kind == INPUT]


def last(group) -> int:
    return group["primary"].consensus.log.last_index


def arrives(group, value: int) -> bytes:
    """A frame at the leader's TAP."""
    group["primary"].member.client_frame(group.frame(value))
    return group.frame(value)


def test_frames_that_come_while_an_entry_is_on_its_way_go_into_the_next_one_together_and_in_order(group):
    since, frames = last(group), [arrives(group, value) for value in range(11, 16)]
    assert ordered(group, since) == frames[:1]
    group.until(lambda: last(group) > since + 1)
    assert ordered(group, since)[:2] == [frames[0], b"".join(frames[1:])]
    group.until(lambda: all(group["primary"].has(value) and group["secondary"].has(value) for value in range(11, 16)))


def test_a_frame_that_comes_alone_does_not_wait(group):
    for value in (21, 22, 23):
        since = last(group)
        frame = arrives(group, value)
        assert ordered(group, since) == [frame]
        group.run(0.05)


def test_frames_wait_for_an_acknowledgement_only_so_long(group):
    acks, since = group["primary"].hold(wire.AppendAck), last(group)
    frames = [arrives(group, 31), arrives(group, 32)]
    assert ordered(group, since) == frames[:1]
    group.run(WAIT_S_MAX + TICK_S)
    assert ordered(group, since) == frames and acks


def test_a_full_log_leaves_them_in_the_tap(group):
    log, incoming = group["primary"].consensus.log, group["primary"].core.leading.incoming
    since, kept = last(group), log.bytes
    log.bytes = group["primary"].config.log_bytes_max
    frame = arrives(group, 41)
    assert not incoming.reads and ordered(group, since) == []
    log.bytes = kept
    group.until(lambda: frame in ordered(group, since))


def test_what_was_read_is_ordered_though_others_would_wait(group):
    """The shell asks before it reads, and something may begin in between."""
    since = last(group)
    for value in (51, 52):
        group["primary"].call("input", group.frame(value))
    assert ordered(group, since) == [group.frame(51), group.frame(52)]
