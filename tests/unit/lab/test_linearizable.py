# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker of histories, on histories known to be good and known to be bad."""

from __future__ import annotations

import random

import pytest

from lab.linearizable import CAS, READ, UNKNOWN, WRITE, Op, Undecided, check
from tests.examples import examples


def write(start, end, value, key="k", client=0):
    return Op(client, key, WRITE, start, end, value=value)


def read(start, end, result, key="k", client=1):
    return Op(client, key, READ, start, end, result=result)


def cas(start, end, expected, value, result, client=2):
    return Op(client, "k", CAS, start, end, value=value, expected=expected, result=result)


GOOD = {
    "nothing": [],
    "in turn": [write(0, 1, 1), read(2, 3, 1)],
    "a read beside a write sees the old value": [write(0, 1, 1), write(2, 5, 2), read(3, 4, 1)],
    "a read beside a write sees the new value": [write(0, 1, 1), write(2, 5, 2), read(3, 4, 2)],
    "two writes at once, in either order": [write(0, 5, 1), write(0, 5, 2), read(6, 7, 1), read(8, 9, 1)],
    "an unknown write that took effect late": [write(0, UNKNOWN, 1), read(1, 2, None), read(3, 4, 1)],
    "an unknown write that never did": [write(0, UNKNOWN, 1), read(1, 2, None), read(90, 91, None)],
    "an unknown read": [read(0, UNKNOWN, None), write(1, 2, 1)],
    "a cas that hit, one that missed": [write(0, 1, 1), cas(2, 3, 1, 2, True), cas(4, 5, 1, 3, False), read(6, 7, 2)],
    "an unknown cas that hit": [write(0, 1, 1), cas(2, UNKNOWN, 1, 2, None), read(3, 4, 1), read(5, 6, 2)],
    "a cas that missed because of an unknown write": [write(0, UNKNOWN, 1), cas(2, 3, None, 2, False)],
    "keys are apart": [write(0, 1, 1, "a"), read(2, 3, None, "b")],
}
BAD = {
    "a lost write": [write(0, 1, 1), read(2, 3, None)],
    "a stale read": [write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)],
    "back in time": [write(0, 1, 1), write(2, 9, 2), read(3, 4, 2), read(5, 6, 1)],
    "a value from nowhere": [read(0, 1, 7)],
    "two cas of one value both hit": [write(0, 1, 1), cas(2, 5, 1, 2, True), cas(2, 5, 1, 3, True)],
    "a cas that missed what was there": [write(0, 1, 1), cas(2, 3, 1, 2, False)],
    "an effect before its start": [read(0, 1, 1), write(2, 3, 1)],
    "an unknown write undone": [write(0, UNKNOWN, 1), read(1, 2, 1), read(3, 4, None)],
    "a good key does not hide a bad one": [write(0, 1, 1, "a"), read(2, 3, 1, "a"), read(2, 3, 2, "b")],
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name):
    assert check(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    assert "is not linearizable" in check(BAD[name])


def history(seed, ops=400, spread_s=2.0):
    """Made from a real register: each operation takes effect at one point inside its interval."""
    rng, value, out = random.Random(seed), None, []
    for at in range(ops):
        start, end = at - rng.random() * spread_s, at + rng.random() * spread_s
        end = UNKNOWN if rng.random() < 0.02 else end
        choice = rng.random()
        if choice < 0.4:
            value = at
            out.append(write(start, end, at))
        elif choice < 0.6:
            expected = value if rng.random() < 0.7 else -at
            out.append(cas(start, end, expected, at, expected == value))
            value = at if expected == value else value
        else:
            out.append(read(start, end, value))
    return out


@pytest.mark.parametrize("seed", range(20))
def test_made_from_a_real_register(seed):
    assert check(history(seed)) is None


@pytest.mark.parametrize("seed", range(examples(20)))
def test_made_from_a_real_register_with_one_read_falsified(seed):
    ops = history(seed)
    n = max(n for n, op in enumerate(ops) if op.kind == READ and not op.unknown)
    ops[n] = ops[n]._replace(result="never written")
    assert check(ops) is not None


def test_it_gives_up_instead_of_running_for_ever():
    ops = [write(0, 100, n) for n in range(20)] + [read(200, 201, "x")]
    with pytest.raises(Undecided, match="over 1000 states"):
        check(ops, states_max=1000)


def test_an_operation_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="no operation"):
        check([write(2, 1, 1)])
