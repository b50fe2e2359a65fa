# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of output in C beside the reference. What either must do is in core/test_agreement.py."""

from __future__ import annotations

import contextlib
import random
from array import array

import pytest
from plover.core import agreement
from plover.errors import WireError
from plover.native.buffers import NativeError
from plover.protocol.frames import wrap
from plover.protocol.segments import FIN, RST, SYN
from said_frames import ACK, NEAR_WRAP, other, tcp, udp, v6

from tests.sim.comparisons import Both, native


def any_frame(rng):
    """Mostly of a few flows whose streams go on; now and then of none."""
    kind = rng.randrange(12)
    if kind == 0:
        return rng.randbytes(rng.randrange(90))
    if kind == 1:
        return other(bytes([rng.randrange(3)]))
    if kind < 5:
        return rng.choice((udp, lambda x: v6(b"portsumm" + x)))(bytes([rng.randrange(3)]))
    flags = rng.choice([ACK] * 12 + [ACK | FIN, ACK | SYN, ACK | RST])
    at = rng.randrange(8)
    text = (b"abcdefghijklmnop" if rng.randrange(30) else b"ABCDEFGHIJKLMNOP")[at : at + rng.randrange(6)]
    frame = tcp(NEAR_WRAP + at, text, acks=rng.randrange(6), flags=flags, port=5000 + rng.randrange(3), version=rng.choice((4, 4, 6)))
    if rng.randrange(40) == 0:
        place = rng.randrange(len(frame))
        frame = frame[:place] + rng.randbytes(1) + frame[place + 1 :]
    return frame


@pytest.mark.parametrize("few", [False, True])
def test_the_library_gives_what_the_reference_gives_whatever_vms_say(few, monkeypatch):
    if few:
        monkeypatch.setattr(agreement, "FLOWS_MAX", 2)
        monkeypatch.setattr(agreement, "AHEAD_MAX", 5)
    both, rng, left = Both(), random.Random(few), 0
    for _history in range(40 if few else 200):
        under_test, number = both.agreement(), 0
        for _step in range(60):
            frames = [any_frame(rng) for _ in range(rng.randrange(1, 5))]
            run, what = b"".join(wrap(frame, rng.choice((0, 0, 1, 7))) for frame in frames), rng.randrange(20)
            if what < 8:
                kept = [bool(rng.randrange(20)) for _ in frames]
                under_test.hold_run(array("Q", [(number + n) * keep for n, keep in enumerate(kept, 1)]), run)
                number += len(frames)
            elif what < 16:
                for told in both.said(run):
                    under_test.hear_packed(told)
            elif what == 16:
                under_test.begin()
            elif what == 17 and rng.randrange(4) == 0:
                under_test.void()
            elif what == 18:
                with contextlib.suppress(WireError):
                    under_test.hear_packed(rng.randbytes(32 * rng.randrange(3)))
            else:
                under_test.open()
            left += len(under_test.leaving())
    assert left > 20  # else nothing was compared


def test_a_run_that_is_no_whole_frames_is_refused_by_the_library():
    under_test = native().agreement()
    for numbers, run in (([1], b""), ([1], wrap(b"x") + b"\0"), ([1], b"\0\0\0\5four"), ([1], wrap(b"x") + wrap(b"y"))):
        with pytest.raises(NativeError, match="Invalid argument"):
            under_test.hold_run(array("Q", numbers), run)
    with pytest.raises(NativeError, match="no array of type"):
        under_test.hold_run(array("I", [1]), wrap(b"x"))
    with pytest.raises(NativeError, match="Invalid argument"):
        native().said(b"\0\0\0\5four")
