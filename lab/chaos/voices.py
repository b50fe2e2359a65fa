# SPDX-License-Identifier: GPL-3.0-or-later
"""Never two voices: only the current leader may send frames with the VM's address. The rule is pure; the sniffer is below.

A frame does not tell its view, so each is given the *smallest* view that its host led, that is not below the view of a
frame seen before, and that had begun when the frame was seen. If there is none, no other choice works either: the host
spoke after another one had spoken in a later view. Times are seconds of CLOCK_REALTIME.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# A daemon's line gets its time from journald, which on a busy host is later than the daemon by this much, at most.
JOURNAL_LAG_S = 1.0
VIOLATIONS_MAX = 20


class Term(NamedTuple):
    """``host`` was elected in ``view``, and its journal says so at ``at``."""

    view: int
    host: str
    at: float


class Frame(NamedTuple):
    """One frame with the VM's source address that came in over ``host``'s uplink."""

    at: float
    host: str


def violations(frames: Iterable[Frame], terms: Iterable[Term], lag_s: float = JOURNAL_LAG_S) -> list[str]:
    """One sentence, with times, for each violation; empty if there was never more than one voice."""
    terms, out = sorted(set(terms)), []
    leaders: dict[int, Term] = {}
    for term in terms:
        other = leaders.setdefault(term.view, term)
        if other.host != term.host:
            out.append(f"two leaders in view {term.view}: {other.host} at {other.at:.6f} and {term.host} at {term.at:.6f}")
    view, spoke = 0, None
    for frame in sorted(frames):
        mine = [t for t in terms if t.host == frame.host and t.view >= view and t.at - lag_s <= frame.at]
        if mine:
            view, spoke = mine[0].view, frame
        elif spoke is None:
            out.append(f"a frame from {frame.host} at {frame.at:.6f}, which led no view by then")
        else:
            out.append(f"a frame from {frame.host} at {frame.at:.6f}, after {spoke.host} had spoken in view {view} at {spoke.at:.6f}")
    return _bounded(out)


def spoke_between(
    frames: Iterable[Frame], terms: Iterable[Term], host: str, begin: float, end: float, lag_s: float = JOURNAL_LAG_S
) -> list[str]:
    """Frames of ``host`` after ``begin`` (it thawed) though another one led by then, up to its next own election."""
    terms = sorted(set(terms))
    led = [t for t in terms if t.at <= begin]
    if not led or max(led).host == host:
        return []
    own = min((t.at - lag_s for t in terms if t.host == host and t.view > max(led).view), default=end)
    return _bounded(
        [
            f"{host}, deposed in view {max(led).view}, came back at {begin:.6f} and sent a frame at {f.at:.6f}"
            for f in sorted(frames)
            if f.host == host and begin <= f.at < own
        ]
    )


def first_after(frames: Iterable[Frame], terms: Iterable[Term], at: float) -> dict[str, int]:
    """The first change of leaders after ``at``, in ms from it: its election, and the new leader's first frame; or {}."""
    term = min((t for t in terms if t.at >= at), key=lambda t: t.at, default=None)
    heard = term and min((f.at for f in frames if f.host == term.host and f.at >= at), default=None)
    return {"elected_ms": round(1000 * (term.at - at)), "first_frame_ms": round(1000 * (heard - at))} if heard else {}


def _bounded(out: list[str]) -> list[str]:
    return out if len(out) <= VIOLATIONS_MAX else [*out[:VIOLATIONS_MAX], f"... and {len(out) - VIOLATIONS_MAX} more"]


# ---- the sniffer: runs in the lab's network namespace -------------------------------------------------------------
ETH_P_ALL, SOL_PACKET, PACKET_STATISTICS = 0x0003, 263, 6
SO_TIMESTAMPNS, SO_ATTACH_FILTER = 35, 26
FRAMES_MAX, QUEUED_MAX = 2_000_000, 100_000


def source_filter(mac: str) -> bytes:
    """A classic BPF program: let through what came in (not what we send out) with source address ``mac``."""
    octets = bytes.fromhex(mac.replace(":", ""))
    high, low = struct.unpack("!IH", octets)
    program = [
        (0x28, 0, 0, 0xFFFFF004),  # A = packet type
        (0x15, 5, 0, 4),  # PACKET_OUTGOING: drop
        (0x20, 0, 0, 6),
        (0x15, 0, 3, high),
        (0x28, 0, 0, 10),
        (0x15, 0, 1, low),
        (0x06, 0, 0, 64),
        (0x06, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in program)


def open_socket(mac: str) -> socket.socket:
    """All cards of this namespace, also those that are plugged in later."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    code = ctypes.create_string_buffer(source_filter(mac))
    program = struct.pack("HP", (len(code) - 1) // 8, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    with contextlib.suppress(BlockingIOError):
        for _ in range(QUEUED_MAX):  # what came before the filter was there
            sock.recv(64, socket.MSG_DONTWAIT)
    sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)  # counts from now on
    return sock


def sniff(mac: str, prefix: str, out: Path) -> None:
    """Note frames on cards named ``prefix``HOST until SIGTERM; writes {"frames": [[at, host], ...], "dropped": n}."""
    sock, frames, ending = open_socket(mac), [], []
    sock.settimeout(0.2)
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    print("ready", flush=True)
    while not ending and len(frames) < FRAMES_MAX:
        try:
            _, extra, _, address = sock.recvmsg(64, 64)
        except TimeoutError:
            continue
        if address[0].startswith(prefix):
            seconds, nanos = struct.unpack("qq", extra[0][2])
            frames.append((seconds + nanos / 1e9, address[0][len(prefix) :]))
    _, dropped = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    out.write_text(json.dumps({"frames": frames, "dropped": dropped}))


def load(path: Path) -> tuple[list[Frame], int]:
    """(frames, how many the kernel could not hand to the sniffer)."""
    raw = json.loads(path.read_text())
    return [Frame(*frame) for frame in raw["frames"]], raw["dropped"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mac", required=True)
    parser.add_argument("--prefix", default="svc-")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sniff(options.mac, options.prefix, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
