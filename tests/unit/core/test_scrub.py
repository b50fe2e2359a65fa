# SPDX-License-Identifier: GPL-3.0-or-later
"""The scrub: memory is compared in turn, whether or not a write to it was reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.core.scrub import SLICE_PAGES_MAX, Scrub
from plover.syncvm.figures import Figures

from tests.sim import guest
from tests.sim.rig import protected


def figures(scrubbed: range = range(0), untracked: int = 0, audit: bool = False) -> Figures:
    pages = tuple(scrubbed[:untracked])
    return Figures(7, 1.0, 10, untracked, 0, audit=audit, untracked=untracked, scrubbed=scrubbed, untracked_pages=pages)


def begun(pages: int = 10_000, interval_s: float = 100.0) -> Scrub:
    scrub = Scrub(pages, interval_s)
    scrub.begin(50.0)
    return scrub


def step(scrub: Scrub, now: float, untracked: int = 0) -> tuple[range, str]:
    pages = scrub.next(now)
    return pages, scrub.compared(figures(pages, untracked), now)


@given(st.lists(st.floats(0.001, 20.0), min_size=30, max_size=60))
def test_each_page_is_compared_once_in_each_round_and_a_round_takes_as_long_as_it_should(gaps):
    scrub, now, seen = begun(), 50.0, []
    for gap in [*gaps, *[1.0] * 120]:
        now += gap
        seen += step(scrub, now)[0]
    assert seen == [n % 10_000 for n in range(len(seen))] and scrub.pages == len(seen)
    assert scrub.rounds == len(seen) // 10_000 >= 1
    # At the last second's end, no more is owed than one slice has.
    assert len(scrub.next(now)) <= SLICE_PAGES_MAX
    assert scrub.round_s >= 60.0


def test_a_syncvm_that_was_given_up_has_compared_nothing():
    scrub = begun()
    assert scrub.next(51.0) == scrub.next(51.0) == range(0, 100)


def test_one_syncvm_compares_no_more_than_the_vm_may_stand_still_for():
    scrub = begun(pages=1 << 24, interval_s=300.0)
    for now in (51.0, 60.0, 1000.0):
        assert len(step(scrub, now)[0]) == SLICE_PAGES_MAX


def test_zero_turns_it_off():
    scrub = begun(interval_s=0)
    assert not scrub.next(1e6) and scrub.describe()["interval_s"] == 0


def test_an_untracked_page_is_told_hurries_the_next_round_and_stays_a_doubt_until_an_audit():
    scrub = begun()
    pages, told = step(scrub, 51.0, untracked=1)
    assert pages == range(100) and "syncvm 7 found and mended 1 pages" in told and "(0)" in told
    hurried = [step(scrub, 51.1 + n / 100)[0] for n in range(4)]
    assert list(map(len, hurried)) == [SLICE_PAGES_MAX, SLICE_PAGES_MAX, 10_000 - 100 - 2 * SLICE_PAGES_MAX, SLICE_PAGES_MAX]
    assert len(scrub.next(51.2)) < 10  # all has been compared: the round goes on at its usual pace
    assert "1 pages had differed" in scrub.sentence
    assert "found and mended 2 pages" in scrub.compared(figures(audit=True, untracked=2), 52.0) and scrub.doubt_pages == 3
    assert not scrub.compared(figures(audit=True), 53.0) and not scrub.sentence
    assert scrub.describe()["untracked_pages"] == 3 and scrub.describe()["doubt_pages"] == 0


def test_an_audit_begins_a_new_round():
    scrub = begun()
    step(scrub, 60.0)
    scrub.compared(figures(audit=True), 70.0)
    assert scrub.next(71.0) == range(0, 100) and scrub.rounds == 0


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("where", ["primary", "secondary"])
def test_a_page_that_changed_unseen_is_mended_counted_and_shown(where):
    group = protected(scrub_interval_s=1)
    group[where].memory.ram[guest.QUIET] = 12345
    leader = group["primary"].core
    group.until(lambda: group["primary"].status()["scrub"]["untracked_pages"])
    assert group["primary"].memory.ram[guest.QUIET] == group["secondary"].memory.ram[guest.QUIET]
    status = group["primary"].status()
    assert status["service"] == "protected" and "but 1 pages had differed unreported" in status["sentence"]
    assert leader.figures.untracked in (0, 1) and status["scrub"]["doubt_pages"] == 1
    assert any(f"({guest.QUIET})" in text for text in group["primary"].reports)
    answers = group["primary"].audit()
    group.until(lambda: answers)
    assert answers[0].untracked == 0 and "but" not in group["primary"].status()["sentence"]


@pytest.mark.usefixtures("small_pages")
def test_what_was_written_is_not_taken_for_untracked():
    group = protected(scrub_interval_s=1)
    for n in range(30):
        group.write(n % 3)
        if group["secondary"].vm.running:
            group["secondary"].guest_writes(guest.NOISE0 + n % 4, n)
    group.until(lambda: group["primary"].status()["scrub"]["rounds"] > 2)
    assert group["primary"].status()["scrub"]["untracked_pages"] == 0
