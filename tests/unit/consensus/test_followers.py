# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader knows of the others: what was lost is sent again, nothing is sent twice, and a heartbeat confirms those before."""

from __future__ import annotations

import pytest
from plover.consensus import log as module
from plover.consensus.followers import BEATS_MAX, Followers
from plover.consensus.log import INPUT, Entry, Log, unpack

VIEW = 5


def log(last: int, payload: bytes = b"frame") -> Log:
    out = Log()
    for index in range(1, last + 1):
        out.append(Entry(index, VIEW, INPUT, payload))
    return out


def known(held: int, entries: Log) -> Followers:
    """A leader that has just learned what the witness holds."""
    out = Followers(("secondary", "witness"), 0.0)
    out.beat(0.0)
    assert out.next_append("witness", VIEW, entries) is None, "it is not known yet what it lacks"
    assert out.answered("witness", 1, held, entries)
    return out


def indexes(message) -> list[int]:
    return [entry.index for entry in unpack(message.payload)]


def test_what_it_lacks_is_sent_once():
    entries = log(4)
    one = known(2, entries)
    message = one.next_append("witness", VIEW, entries)
    assert (message.prev_index, message.prev_view, message.reset, indexes(message)) == (2, VIEW, False, [3, 4])
    assert one.next_append("witness", VIEW, entries) is None


def test_what_was_lost_on_the_way_is_noticed_at_the_next_heartbeat():
    entries = log(4)
    one = known(2, entries)
    one.next_append("witness", VIEW, entries)
    one.beat(1.0)
    assert not one.answered("witness", 1, 2, entries), "an answer to an older heartbeat tells nothing"
    assert one.answered("witness", 2, 2, entries)
    assert indexes(one.next_append("witness", VIEW, entries)) == [3, 4]


def test_a_new_connection_sends_nothing_until_its_next_answer():
    entries = log(4)
    one = known(4, entries)
    one.reconnected("witness")
    assert one.next_append("witness", VIEW, entries) is None
    assert one.answered("witness", 1, 3, entries) and indexes(one.next_append("witness", VIEW, entries)) == [4]


@pytest.mark.parametrize(
    "lost",
    [
        lambda one, entries: one.refused("witness"),
        lambda one, entries: (one.reconnected("witness"), one.answered("witness", 1, 1, entries)),
    ],
)
def test_who_holds_nothing_that_we_can_build_on_gets_the_whole_log(lost):
    entries = log(4)
    entries.truncate(2)
    one = known(4, entries)
    lost(one, entries)
    message = one.next_append("witness", VIEW, entries)
    assert (message.prev_index, message.reset, indexes(message)) == (2, True, [3, 4])


def test_a_long_log_goes_in_parts(monkeypatch):
    monkeypatch.setattr(module, "APPEND_BYTES_MAX", 200)
    entries = log(5, bytes(100))
    one = known(0, entries)
    sent = []
    while message := one.next_append("witness", VIEW, entries):
        sent.append(indexes(message))
    assert sent == [[1, 2], [3, 4], [5]]


def test_a_heartbeat_that_is_acknowledged_confirms_those_before_it_and_none_that_was_never_sent():
    one = Followers(("secondary", "witness"), 0.0)
    for n in range(1, 5):
        assert one.beat(float(n)) == n
    one.confirm("witness", 3)
    assert (one.confirmed_seq, one.confirmed_at) == (3, 3.0)
    one.confirm("secondary", 2)
    assert (one.confirmed_seq, one.confirmed_at) == (3, 3.0), "it does not go back"
    assert one.acknowledged_at == {"secondary": 2.0, "witness": 3.0}
    one.confirm("secondary", 2**60)
    assert (one.confirmed_seq, one.confirmed_at) == (4, 4.0)
    one.confirm("witness", 0)  # the answer to a record names no heartbeat
    assert one.acknowledged_at == {"secondary": 4.0, "witness": 3.0}
    assert one.acknowledged_since(4.0, ("secondary",)) and not one.acknowledged_since(4.1, ("secondary",))


def test_heartbeats_that_nobody_answers_are_forgotten_at_last():
    one = Followers(("secondary", "witness"), 0.0)
    for n in range(3 * BEATS_MAX):
        one.beat(float(n))
    one.confirm("witness", BEATS_MAX)
    assert one.confirmed_at == float("-inf") and len(one._beats) == BEATS_MAX
