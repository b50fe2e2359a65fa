# SPDX-License-Identifier: GPL-3.0-or-later
"""What a TAP lets out, and when no more. The file descriptor is a pipe's: frames in, the same bytes out."""

from __future__ import annotations

import os

import pytest
from plover.dataplane.tap import Tap
from plover.host import clock
from plover.protocol.frames import wrap

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")

RUN = b"".join(wrap(frame) for frame in (b"one", b"two", b"three"))


@pytest.fixture
def tap():
    out = Tap.__new__(Tap)  # a real one needs /dev/net/tun; the integration tests have it
    out.dropped, out._now, out._card = 0, clock.now, 0
    out.reader, out.fd = os.pipe()
    os.set_blocking(out.reader, False)
    yield out
    os.close(out.reader)
    out.close()


def test_frames_leave_in_order(tap):
    assert tap.write(RUN, clock.now() + 5) == b""
    assert (os.read(tap.reader, 99), tap.dropped) == (b"onetwothree", 0)


def test_nothing_leaves_once_its_time_is_over(tap):
    assert tap.write(RUN, clock.now() - 0.001) == RUN
    with pytest.raises(BlockingIOError):
        os.read(tap.reader, 99)
    assert tap.dropped == 0


def test_what_is_left_when_the_time_is_over_comes_back_whole_and_in_order(tap):
    times = iter((1.0, 2.0, 3.0))
    tap._now = lambda: next(times)
    late = tap.write(RUN, 2.5)
    assert (os.read(tap.reader, 99), late) == (b"onetwo", wrap(b"three"))
    tap._now = lambda: 0.0
    assert tap.write(late, 2.5) == b"" and os.read(tap.reader, 99) == b"three"


def test_a_frame_that_the_tap_does_not_take_is_counted(tap):
    os.close(tap.reader)
    assert tap.write(RUN, clock.now() + 5) == b"" and tap.dropped == 3
    tap.reader, spare = os.pipe()
    os.close(spare)


def test_nothing_leaves_after_a_suspend_that_came_between(tap):
    decided_until = clock.now() + 5
    tap._now = lambda: clock.now() + 60
    assert tap.write(RUN, decided_until) == RUN


def test_who_was_stopped_between_its_decision_and_the_wire_is_late(tap):
    """Seen in the lab: a daemon got SIGSTOP there, and one frame left when it went on, 4 s after another had taken over."""
    group = protected()
    core, detection_s = group.serving().core, group.serving().consensus.timing.detection
    assert 0 < core.speak_until - core.now < detection_s / 2
    age_s = core.now - core.consensus.followers.confirmed_at
    assert core.consensus.fresh(core.now) and age_s + (core.speak_until - core.now) <= detection_s
