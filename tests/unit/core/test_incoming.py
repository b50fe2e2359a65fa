# SPDX-License-Identifier: GPL-3.0-or-later
"""Group commit: input gathers while entries are on their way, in order and within limits."""

from __future__ import annotations

import pytest
from plover.consensus.log import INPUT
from plover.core.incoming import GATHERED_BYTES_MAX, GATHERED_S_MAX
from plover.protocol import wire

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")


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


def test_frames_that_come_while_an_entry_is_on_its_way_go_into_the_next_one_together_and_in_order(group):
    since, frames = last(group), [group.frame(value) for value in range(11, 16)]
    for frame in frames:
        group["primary"].call("input", frame)
    assert ordered(group, since) == frames[:1]
    group.until(lambda: last(group) > since + 1)
    assert ordered(group, since)[:2] == [frames[0], b"".join(frames[1:])]
    group.until(lambda: all(group["primary"].has(value) and group["secondary"].has(value) for value in range(11, 16)))


def test_a_frame_that_comes_alone_does_not_wait(group):
    for value in (21, 22, 23):
        since = last(group)
        group["primary"].call("input", group.frame(value))
        assert ordered(group, since) == [group.frame(value)]
        group.run(0.05)


def test_frames_wait_for_an_acknowledgement_only_so_long(group):
    acks, since = group["primary"].hold(wire.AppendAck), last(group)
    group["primary"].call("input", group.frame(31))
    group["primary"].call("input", group.frame(32))
    assert ordered(group, since) == [group.frame(31)]
    group.run(GATHERED_S_MAX + 0.006)  # until the next tick
    assert ordered(group, since) == [group.frame(31), group.frame(32)] and acks


def test_only_so_many_frames_wait(group):
    group["primary"].hold(wire.AppendAck)
    since, frame = last(group), group.frame(41)
    many = frame * (GATHERED_BYTES_MAX // len(frame) + 1)
    group["primary"].call("input", frame)
    group["primary"].call("input", many)
    assert ordered(group, since) == [frame, many]


def test_frames_that_wait_count_against_the_logs_limit(group):
    group["primary"].hold(wire.AppendAck)
    incoming = group["primary"].core.leading.incoming
    group["primary"].call("input", group.frame(51))
    assert incoming.accepts
    free = group["primary"].config.log_bytes_max - group["primary"].consensus.log.bytes
    group["primary"].consensus.log.bytes += free - len(group.frame(52))
    group["primary"].call("input", group.frame(52))
    assert not incoming.accepts


def test_what_was_not_ordered_ends_with_the_view(group):
    primary = group["primary"]
    primary.hold(wire.AppendAck)
    primary.call("input", group.frame(61))
    primary.call("input", group.frame(62))
    since = last(group)
    primary.core.leading.suspend()
    primary.core.leading.active = True
    primary.core.leading.incoming.order()
    assert last(group) == since
