# SPDX-License-Identifier: GPL-3.0-or-later
"""The TAPs of a VM with two cards: each frame goes to its card's, in order, and none after its time. Descriptors are pipes'."""

from __future__ import annotations

import asyncio
import fcntl
import os

import pytest
from plover.dataplane.tap import Tap
from plover.dataplane.taps import Taps
from plover.errors import NetworkError
from plover.protocol.frames import wrap

RUN = wrap(b"a") + wrap(b"b", 1) + wrap(b"c", 1) + wrap(b"d")


class Filter:
    def __init__(self, **found):
        self._found = {"check": "strict", "dropped": {}, "loaded_again": 0, "error": "", **found}

    def describe(self):
        return self._found


@pytest.fixture
def taps():
    out = Taps.__new__(Taps)  # real ones need /dev/net/tun; the integration tests have them
    out.each, out.now = [], 0.0
    for card in range(2):
        tap = Tap.__new__(Tap)
        tap.dropped, tap.stale, tap._now, tap._card = 0, 0, lambda: out.now, card
        tap.reader, tap.fd = os.pipe()
        os.set_blocking(tap.reader, False)
        out.each.append(tap)
    yield out
    for tap in out.each:
        os.close(tap.reader)
        tap.close()


def came(tap):
    try:
        return os.read(tap.reader, 99)
    except BlockingIOError:
        return b""


def test_each_frame_goes_to_its_cards_tap(taps):
    assert taps.write(RUN, 1.0) == b"" and [came(tap) for tap in taps.each] == [b"ad", b"bc"]


@pytest.mark.parametrize(
    "first, second, late",
    [
        (b"", b"", RUN),
        (b"a", b"", RUN[5:]),
        (b"a", b"b", RUN[10:]),
        (b"a", b"bc", RUN[15:]),
        (b"ad", b"bc", b""),
    ],
)
def test_what_is_late_comes_back_whole_and_in_order(taps, first, second, late):
    times = iter([0.0] * len(first + second) + [9.0] * 9)
    for tap in taps.each:
        tap._now = lambda: next(times)
    assert taps.write(RUN, 1.0) == late and [came(tap) for tap in taps.each] == [first, second]


def test_what_comes_is_marked_with_its_card_and_counted_together(taps):
    writers = []
    for tap, sent in zip(taps.each, ([b"one"], [b"two", b"three"])):
        os.close(tap.fd)
        tap.fd, writer = os.pipe2(os.O_NONBLOCK | os.O_DIRECT)  # a packet is a packet, as in a TAP
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        for frame in sent:
            os.write(writer, frame)
        writers.append(writer)  # open until the end: a TAP has no end of file
    assert taps.read_batch() == wrap(b"one") + wrap(b"two", 1) + wrap(b"three", 1) and taps.read_batch() == b""
    for writer in writers:
        for _frame in range(50):
            os.write(writer, b"f")
    assert taps.read_batch() == 32 * wrap(b"f") + 32 * wrap(b"f", 1)  # no more than of one TAP
    for tap, writer in zip(taps.each, writers):
        os.close(writer)
        tap.dropped, tap.stale = 2, 3
    assert (taps.dropped, taps.stale) == (4, 6)


def test_the_status_has_all_filters_together_and_each_by_itself(taps):
    taps.filters = [
        Filter(dropped={"source_mac": 2}),
        Filter(check="mac", dropped={"source_mac": 1, "dhcp": 4}, loaded_again=1, error="gone"),
    ]
    taps._nics = [type("Nic", (), {"mac": f"m{n}", "tap": f"t{n}", "bridge": f"b{n}"}) for n in range(2)]
    found = taps.describe()
    assert found["filter"] == {"check": "mac", "dropped": {"source_mac": 3, "dhcp": 4}, "loaded_again": 1, "error": "gone"}
    assert [(nic["mac"], nic["tap"], nic["bridge"], nic["filter"]["dropped"]) for nic in found["nics"]] == [
        ("m0", "t0", "b0", {"source_mac": 2}),
        ("m1", "t1", "b1", {"source_mac": 1, "dhcp": 4}),
    ]
    taps.filters, taps._nics = taps.filters[:1], taps._nics[:1]
    assert taps.describe() == {"filter": Filter(dropped={"source_mac": 2}).describe()}


def test_one_that_fails_does_not_keep_the_others_from_their_scripts(taps):
    done = []

    async def fails():
        raise NetworkError("network_ifup: no")

    async def works():
        await asyncio.sleep(0)
        done.append("up")

    taps.each[0].up, taps.each[1].up = fails, works
    with pytest.raises(NetworkError, match="network_ifup: no"):
        asyncio.run(taps.up())
    assert done == ["up"]
