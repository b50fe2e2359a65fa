# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of both VMs' output in C (native/src/agreement/); core/comparison.py is the reference."""

from __future__ import annotations

import ctypes as c
from array import array
from collections import Counter
from typing import TYPE_CHECKING

from ..core import agreement as reference
from ..errors import InvariantViolation
from ..protocol import sayings
from .buffers import NativeError, address_of, array_address, checked

if TYPE_CHECKING:
    from .library import Native

WHY = ("", reference.CONNECTION, reference.AGAIN, reference.UNKNOWN, reference.FOLLOWS)  # as in plover_agreement_hold
DIFFERENCES = (reference.BYTES, reference.END, reference.PLACE)  # as in plover_agreement_leaving
FRAME_BYTES_MIN = 18  # of a frame that anything is said about, with its length


class NativeAgreement:
    def __init__(self, lib: c.CDLL) -> None:
        self._lib, self._handle = lib, lib.plover_agreement_new(reference.FLOWS_MAX, reference.AHEAD_MAX)
        if not self._handle:
            raise NativeError("output_comparison: no memory for the flows of a VM")
        self.is_open = False
        self._numbers, self._differ = c.POINTER(c.c_uint64)(), array("I", bytes(4 * len(DIFFERENCES)))
        self._differs = False

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._lib.plover_agreement_free(self._handle)
            self._handle = None

    @property
    def differences(self) -> Counter[str]:
        if not self._differs:
            return Counter()
        return Counter({kind: count for kind, count in zip(DIFFERENCES, self._differ) if count})

    def _begun(self) -> None:
        self.is_open = self._differs = False

    def open(self) -> None:
        self._lib.plover_agreement_open(self._handle, 1)
        self.is_open = True

    def begin(self) -> None:
        self._lib.plover_agreement_begin(self._handle)
        self._begun()

    def void(self) -> None:
        self._lib.plover_agreement_void(self._handle)
        self._begun()

    def hold_run(self, numbers: array[int], run: bytes) -> list[str]:
        why = bytearray(len(numbers))
        if not why:
            return []
        rc = self._lib.plover_agreement_hold(self._handle, array_address(numbers, "Q"), len(numbers), run, len(run), address_of(why, True))
        checked(rc, "holding output")
        return [WHY[kind] for kind in why if kind]

    def hear_packed(self, told: bytes) -> None:
        if len(told) > sayings.SAYINGS_MAX * sayings.ITEM_BYTES or self._lib.plover_agreement_hear(self._handle, told, len(told)):
            sayings.unpack(told)  # says what is wrong
            raise InvariantViolation("the library refuses what a VM has said, and the reference does not")

    def leaving(self) -> array[int]:
        count = self._lib.plover_agreement_leaving(self._handle, c.byref(self._numbers), array_address(self._differ, "I"))
        self._differs = any(self._differ)
        out = array("Q")
        if count:
            out.frombytes(c.string_at(self._numbers, 8 * count))
        return out


class NativeComparison:
    """The port of ports/comparison.py."""

    def __init__(self, native: Native) -> None:
        self._lib = native.lib

    def agreement(self) -> NativeAgreement:
        return NativeAgreement(self._lib)

    def said(self, run: bytes) -> list[bytes]:
        out = bytearray(sayings.ITEM_BYTES * (len(run) // FRAME_BYTES_MIN + 1))
        count = checked(self._lib.plover_sayings(run, len(run), address_of(out, True), len(out)), "telling what a VM has said")
        most = sayings.SAYINGS_MAX * sayings.ITEM_BYTES
        return [bytes(out[at : min(count, at + most)]) for at in range(0, count, most)]
