# SPDX-License-Identifier: GPL-3.0-or-later
"""What the core asks of the code that compares the output of both VMs. There are two that give the same results: core/comparison.py
is the reference, native/comparison.py is fast. Setting ``output_comparison`` chooses."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Protocol


class Agreement(Protocol):
    """On the leader, since the last stop of a syncvm; see core/agreement.py. Frames are known by numbers, which their owner gives."""

    @property
    def differences(self) -> Counter[str]:
        """Found since then, by kind: a syncvm is due."""

    def open(self) -> None:
        """The secondary has staged that syncvm, so what it says comes from its state."""

    @property
    def is_open(self) -> bool: ...

    def begin(self) -> None:
        """Our VM stands still for a syncvm."""

    def void(self) -> None:
        """Another view, or another secondary: nothing is agreed on before the next syncvm."""

    def hold_run(self, numbers: array[int], run: bytes) -> list[str]:
        """Our VM has sent ``run``, whole frames as QEMU sends them, one for each number; 0: nobody keeps it. Returns why those
        that must wait for a syncvm must do so, in order. ``numbers``: an array "Q"."""

    def hear_packed(self, told: bytes) -> None:
        """The secondary's VM has said so (protocol/sayings.py). Raises WireError, before anything has changed."""

    def leaving(self) -> Sequence[int]:
        """Numbers of the frames that may leave now; in order, as far as they are of one flow."""


class Comparison(Protocol):
    def agreement(self) -> Agreement: ...

    def said(self, run: bytes) -> list[bytes]:
        """The sayings of a run of whole frames, packed, in as many messages as needed."""
