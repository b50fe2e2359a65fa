# SPDX-License-Identifier: GPL-3.0-or-later
"""What is released leaves in slices; a slice waits until the leader knows to lead and the TAP is up, and is never dropped."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from plover.core.comparison import Reference
from plover.core.guard import Guard
from plover.core.outbox import SLICE_BYTES
from plover.core.output_commit import TRIES_MAX, OutputCommit
from plover.ports import effects

CHUNK = b"x" * SLICE_BYTES


class Cons:
    """A leader's consensus. ``confirm`` returns the number of the question."""

    def __init__(self):
        self.is_fresh, self.asked, self.confirmed_seq, self.view = True, 0, 0, 5

    def fresh(self, now):
        return self.is_fresh

    def confirm(self, now):
        self.asked += 1
        return self.asked


class Core:
    def __init__(self):
        self.consensus, self.now, self.out = Cons(), 0.0, []
        self.comparison = Reference()
        self.config = SimpleNamespace(output_release="agreed", checkpoints=False, latency_ms_target=50)

    def emit(self, *actions):
        self.out += actions


class Speaks:
    serving = protected = held_for_syncvm = True


@pytest.fixture
def commit():
    out = OutputCommit(Core(), Speaks(), Guard(10 * SLICE_BYTES))
    out.open_way()
    return out


def release(commit, *outputs):
    for output in outputs:
        commit.hold(output)
    commit.syncvm_stopped(1)
    commit.syncvm_staged()


def slices(commit):
    out, commit._core.out = commit._core.out, []
    assert all(isinstance(action, effects.Emit) for action in out)
    return [(action.number, b"".join(action.chunks)) for action in out]


def test_the_next_slice_leaves_when_the_one_before_has_left(commit):
    release(commit, CHUNK, b"second")
    assert slices(commit) == [(1, CHUNK)] and commit.pending
    commit.left(1, [])
    assert slices(commit) == [(2, b"second")]
    commit.left(2, [])
    assert not commit.pending and not slices(commit)


def test_what_came_too_late_waits_for_the_word_of_a_quorum(commit):
    release(commit, b"one", b"two")
    slices(commit)
    commit._cons.is_fresh = False
    commit.left(1, [b"two"])
    assert not slices(commit) and commit._cons.asked == 1 and commit.pending
    commit._cons.is_fresh, commit._cons.confirmed_seq = True, 1
    commit.release_confirmed()
    assert slices(commit) == [(2, b"two")]


def test_the_last_try_counts_however_long_it_took(commit):
    commit._cons.is_fresh = False
    release(commit, b"one")
    for n in range(1, TRIES_MAX + 1):
        assert not slices(commit) and commit._cons.asked == n
        commit.release_confirmed()
        assert commit._cons.asked == n, "no answer yet"
        commit._cons.confirmed_seq = n
        commit.release_confirmed()
    assert slices(commit) == [(1, b"one")]


def test_nothing_leaves_while_the_tap_is_not_up_or_the_leader_does_not_serve(commit):
    commit.close_way()
    release(commit, b"one")
    assert not slices(commit) and commit.pending
    commit._leader.serving = False
    commit.open_way()
    assert not slices(commit) and commit.pending
    commit._leader.serving = True
    commit.release_confirmed()
    assert slices(commit) == [(1, b"one")]


def test_what_came_back_after_the_view_ended_waits_for_the_next_election(commit):
    release(commit, b"one")
    slices(commit)
    commit.close_way()
    commit.left(1, [b"one"])
    assert not slices(commit) and commit.outbox.bytes == 3
    commit.open_way()
    assert slices(commit) == [(2, b"one")]


def test_what_waits_to_leave_counts_as_held(commit):
    commit.close_way()
    release(commit, *[CHUNK] * 10)
    commit.hold(b"more")
    assert commit._guard.dropped_bytes == 4
    commit.open_way()
    commit.left(1, [])
    commit.hold(b"more")
    assert commit._guard.dropped_bytes == 4 and commit._guard.bytes == 4


def test_a_syncvm_releases_what_a_quorum_was_asked_for_and_the_quorums_word_may_come_later(commit):
    """Found by seed 2102: the leader's daemon ended. The leader was alone, was hung, and had a secondary before it heard the answers."""
    commit._leader.held_for_syncvm = commit._leader.protected = False
    commit.hold(b"held alone")
    assert commit._cons.asked == 1 and commit.pending and not slices(commit)
    commit._leader.held_for_syncvm = commit._leader.protected = True
    release(commit, b"and then")
    assert slices(commit) == [(1, b"held aloneand then")]
    commit.left(1, [])
    assert not commit.pending
    commit._cons.confirmed_seq = 1
    commit.release_confirmed()
    assert not slices(commit)
