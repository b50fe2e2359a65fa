# SPDX-License-Identifier: GPL-3.0-or-later
"""Any well-formed message at any moment of a member's life is understood, passed over, or refused as what it is.

The messages that are known to be bad are in tests/unit/core/test_nonsense.py.
"""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plover.consensus.log import INPUT, SYNCVM, Entry, pack
from plover.errors import WireError
from plover.protocol import sayings, wire

from tests.examples import examples
from tests.sim.guest import BYTES, PAGES
from tests.sim.kinds import OF_SYNCVMS
from tests.sim.rig import at

# The greetings never get past the links: see links/test_peers.py.
TYPES = [cls for cls in sorted(wire.Message.__subclasses__(), key=lambda cls: cls.TYPE) if cls not in wire.GREETINGS]
DATA_TYPES = (wire.FillPages, wire.FillState, wire.FillDone, *OF_SYNCVMS, wire.LateInput, wire.Said)
CONSENSUS_TYPES = (wire.Heartbeat, wire.HeartbeatAck, wire.ProposeRecord, wire.Append, wire.AppendAck, wire.VoteRequest, wire.VoteReply)
PAGE = 4 + BYTES  # on the wire, with its number
COUNTABLE = 2**62  # no number of ours gets further by counting


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
@settings(max_examples=examples(20))
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
