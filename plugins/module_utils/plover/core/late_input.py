# SPDX-License-Identifier: GPL-3.0-or-later
"""After a handover the old leader passes frames for the VM on, until the network has learnt the new way. Pure.

A lost frame costs its client a retransmission, 200 ms or more: far more than the switchover. Only input goes this way.
"""

from __future__ import annotations

from typing import Protocol

from ..config.settings import Config
from ..consensus.consensus import Consensus
from ..errors import WireError
from ..ports import effects
from ..protocol import wire
from ..protocol.frames import by_card, split, whole, wrap


class Group(Protocol):
    """The settings, and the leader of now."""

    config: Config
    consensus: Consensus


class LateInput:
    def __init__(self) -> None:
        self._until: float | None = None

    def begin(self, until: float) -> None:
        """We handed over; our TAP stays up until ``until``."""
        self._until = until

    def cancel(self) -> None:
        self._until = None

    def active(self, core: Group) -> bool:
        """True while input can be passed on: the new leader is known. Before that, frames wait in the TAP."""
        return self._until is not None and core.consensus.leader in core.consensus.others

    def tick(self, now: float) -> list[effects.TapDown]:
        if self._until is None or now < self._until:
            return []
        self._until = None
        return [effects.TapDown()]

    def forward(self, core: Group, payload: bytes) -> list[effects.SendData]:
        """Pass on the frames addressed to the VM; broadcasts reach the new leader by themselves."""
        macs = [bytes.fromhex(nic.mac.replace(":", "")) for nic in core.config.nics]
        mine = b"".join(wrap(bytes(frame), card) for card, run in by_card(payload) for frame in split(run) if frame[:6] == macs[card])
        return [effects.SendData(wire.LateInput(core.consensus.view, mine))] if mine else []


def checked(payload: bytes, cards: int) -> bytes:
    """``payload``, if it is whole frames of a VM with so many cards; else WireError: QEMU's sockets must not get out of step."""
    if whole(payload, cards):
        return payload
    raise WireError("late input: is no run of whole frames for the VM's network cards")
