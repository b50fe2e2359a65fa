# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard: exactly what was held before the mark is released, in order, once; and nothing else ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from plover.core.guard import Guard
from plover.errors import InvariantViolation

from tests.examples import examples

BYTES_MAX = 40


class GuardModel(RuleBasedStateMachine):
    """A guard beside the plainest model: a list of (output, the mark that covers it or None)."""

    def __init__(self):
        super().__init__()
        self.guard = Guard(BYTES_MAX)
        self.held, self.released, self.dropped = [], [], 0
        self.marks, self.count, self.now = [], 0, 0.0
        self.numbers = {}  # the guard's number of an output -> ours
        self.overdue = set()  # output that had a mark once

    @rule(size=st.integers(1, 25))
    def hold(self, size):
        self.count += 1
        self.now += 1.0
        output = self.count.to_bytes(4, "big").ljust(size + 4, b"x")
        fits = sum(len(o) for o, _, _ in self.held) + len(output) <= BYTES_MAX
        number = self.guard.hold(output, self.now)
        assert bool(number) is fits
        self.numbers[number] = self.count
        if fits:
            self.held.append((output, None, self.now))
        else:
            self.dropped += len(output)

    @rule(size=st.integers(1, 25))
    def make_room(self, size):
        self.guard.make_room(size)
        while any(m is None for _, m, _ in self.held) and sum(len(o) for o, _, _ in self.held) + size > BYTES_MAX:
            self.held.remove(next(item for item in self.held if item[1] is None))

    @rule(data=st.data())
    def take(self, data):
        """Output without a mark, by its number; other output cannot be had this way."""
        number = data.draw(st.integers(1, max(1, self.count)))
        found = [(o, m, at) for o, m, at in self.held if int.from_bytes(o[:4], "big") == self.numbers.get(number) and m is None]
        if found:
            assert self.guard.take(number) == (found[0][2], found[0][0])
            self.held.remove(found[0])
        else:
            with pytest.raises(InvariantViolation, match="without a mark"):
                self.guard.take(number)

    @rule()
    def mark(self):
        mark = self.guard.mark()
        assert mark not in self.marks
        self.marks.append(mark)
        self.held = [(o, mark if m is None else m, at) for o, m, at in self.held]

    @precondition(lambda self: self.marks)
    @rule(data=st.data())
    def release(self, data):
        mark = data.draw(st.sampled_from(self.marks))
        covered = [o for o, m, _ in self.held if m is not None and m <= mark]
        assert self.guard.release(mark) == covered
        self.released += covered
        self.held = self.held[len(covered) :]
        self.marks = [m for m in self.marks if m > mark]

    @rule(ahead=st.integers(1, 5))
    def release_what_was_never_set(self, ahead):
        with pytest.raises(InvariantViolation):
            self.guard.release(max(self.marks, default=0) + ahead if self.marks else ahead)

    @rule()
    def unmark(self):
        self.guard.unmark()
        if self.marks:
            self.held = [(o, None, at) for o, _, at in self.held]
            self.overdue.update(o for o, _, _ in self.held)
        self.marks = []

    @rule()
    def discard(self):
        assert self.guard.discard() == sum(len(o) for o, _, _ in self.held)
        self.held, self.marks = [], []

    @invariant()
    def the_books_are_right(self):
        unmarked = [(o, at) for o, m, at in self.held if m is None]
        assert self.guard.bytes == sum(len(o) for o, _, _ in self.held) <= BYTES_MAX
        assert self.guard.unmarked_bytes == sum(len(o) for o, _ in unmarked)
        assert self.guard.dropped_bytes == self.dropped
        assert self.guard.oldest_unmarked_s == (None if not unmarked else 0.0 if unmarked[0][0] in self.overdue else unmarked[0][1])
        assert self.guard.held_since == (self.held[0][2] if self.held else None)

    @invariant()
    def nothing_is_released_twice_or_out_of_order(self):
        numbers = [int.from_bytes(o[:4], "big") for o in self.released]
        assert numbers == sorted(set(numbers))


TestGuardModel = GuardModel.TestCase
TestGuardModel.settings = settings(max_examples=examples(120), stateful_step_count=30)


def test_without_a_mark_nothing_is_released():
    guard = Guard(100)
    guard.hold(b"secret", 1.0)
    for mark in (0, 1, 2, -1):
        with pytest.raises(InvariantViolation, match="never set"):
            guard.release(mark)
    assert guard.bytes == 6


def test_what_comes_after_the_mark_stays():
    guard = Guard(100)
    guard.hold(b"before", 1.0)
    mark = guard.mark()
    guard.hold(b"after", 2.0)
    assert guard.release(mark) == [b"before"]
    assert (guard.bytes, guard.unmarked_bytes, guard.oldest_unmarked_s) == (5, 5, 2.0)


def test_a_mark_is_met_once():
    guard = Guard(100)
    guard.hold(b"output", 1.0)
    mark = guard.mark()
    assert guard.release(mark) == [b"output"]
    guard.hold(b"later", 2.0)
    with pytest.raises(InvariantViolation):
        guard.release(mark)
    guard.mark()
    assert guard.release(mark) == []
    assert guard.bytes == 5


def test_a_later_mark_covers_the_earlier_ones():
    guard = Guard(100)
    marks = []
    for number in range(3):
        guard.hold(b"%d" % number, 1.0)
        marks.append(guard.mark())
    assert guard.release(marks[1]) == [b"0", b"1"]
    assert guard.release(marks[0]) == []
    assert guard.release(marks[2]) == [b"2"]


def test_a_forgotten_mark_releases_nothing_even_after_a_new_one():
    """A syncvm that was given up and is acknowledged late must not let its output go."""
    guard = Guard(100)
    guard.hold(b"output", 1.0)
    old = guard.mark()
    guard.unmark()
    with pytest.raises(InvariantViolation):
        guard.release(old)
    new = guard.mark()
    assert guard.release(old) == []
    assert guard.release(new) == [b"output"]


def test_what_is_discarded_is_gone_and_its_marks_too():
    guard = Guard(100)
    guard.hold(b"stale", 1.0)
    mark = guard.mark()
    assert guard.discard() == 5
    with pytest.raises(InvariantViolation):
        guard.release(mark)
    guard.hold(b"fresh", 2.0)
    assert guard.release(guard.mark()) == [b"fresh"]


def test_a_full_guard_drops_the_new_and_keeps_the_old():
    guard = Guard(10)
    assert guard.hold(b"12345678", 1.0)
    assert not guard.hold(b"123", 2.0)
    assert guard.hold(b"12", 3.0)
    assert (guard.bytes, guard.dropped_bytes) == (10, 3)
    assert guard.release(guard.mark()) == [b"12345678", b"12"]
    assert guard.hold(b"1234567890", 4.0)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=60))
def test_the_guard_never_holds_more_than_its_limit(outputs):
    guard = Guard(100)
    kept = [output for output in outputs if guard.hold(output, 0.0)]
    assert guard.bytes == sum(map(len, kept)) <= 100
    assert guard.bytes + guard.dropped_bytes == sum(map(len, outputs))
    assert guard.release(guard.mark()) == kept
