# SPDX-License-Identifier: GPL-3.0-or-later
"""Effects of the consensus, which its owner carries out in order, and the names of its roles. Values only."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ..protocol import wire
from .durable import Durable, Record

FOLLOWER, CANDIDATE, LEADER = "follower", "candidate", "leader"


class Send(NamedTuple):
    to: str
    message: wire.Message


class Persist(NamedTuple):
    state: Durable


class Elected(NamedTuple):
    view: int


class Deposed(NamedTuple):
    """A leader lost its view, or a follower has a new leader. ``leader``: None while it is unknown."""

    view: int
    leader: str | None
    was_leader: bool


class RecordCommitted(NamedTuple):
    record: Record


Output: TypeAlias = "Send | Persist | Elected | Deposed | RecordCommitted"
