# SPDX-License-Identifier: GPL-3.0-or-later
"""The member's history: notes of the event log with a time stamp, in the state folder; one JSON object a line.

Nothing depends on it, so nothing may suffer from it: notes wait in memory (bounded) and a thread writes them; notes that
cannot be written stay there for another try. Two files of at most BYTES_MAX; damaged lines are skipped and counted.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import plain

BYTES_MAX = 256 << 10
PENDING_MAX = 1000
LINE_BYTES_MAX = 4096
WHY_CHARACTERS_MAX = 500
DURATION_MAX = 1e12
FACTS = {
    "view": ("view", "leader", "cause"),
    "serving": ("view", "outage_ms"),
    "mode": ("mode", "before", "before_s"),
    "guest": ("what",),
    "start": (),
}

MOMENTS = ("start", "guest")  # they do not last


def stamp(seconds: float) -> str:
    """Wall clock as ISO 8601, UTC, milliseconds."""
    text = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    """The reverse of :func:`stamp`; raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


class History:
    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self._clock = folder / "history.jsonl", clock
        self._pending: deque[bytes] = deque(maxlen=PENDING_MAX)
        self.lost = 0  # notes that found no room in memory while nothing could be written
        self.error = ""

    def note(self, kind: str, why: str, facts: dict[str, Any]) -> None:
        """Keep one note; :meth:`flush` writes it."""
        self.lost += len(self._pending) == PENDING_MAX
        entry = {"at": stamp(self._clock()), "kind": kind, "why": why[:WHY_CHARACTERS_MAX], **facts}
        self._pending.append(json.dumps(entry).encode() + b"\n")

    def flush(self) -> bool:
        """Write all waiting notes; False, with ``error`` set, if that was not possible. Never raises OSError."""
        try:
            while self._pending:
                self._append(self._pending[0])
                self._pending.popleft()
            self.error = ""
        except OSError as error:
            self.error = f"history: cannot write {self.path}: {error.strerror}; {len(self._pending)} notes wait in memory"
        return not self.error

    def _append(self, line: bytes) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size + len(line) > BYTES_MAX:
                os.replace(self.path, older(self.path))
                return self._append(line)
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # the last line was cut off: the next must not be lost with it
            if os.write(fd, line) != len(line):
                raise OSError(28, "No space left on device")
        finally:
            os.close(fd)


def older(path: Path) -> Path:
    return path.with_name("history.1.jsonl")


def read(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """(entries, oldest first; number of damaged lines). Raises OSError if the files are there and cannot be read."""
    entries, damaged = [], 0
    path = folder / "history.jsonl"
    for file in (older(path), path):
        try:
            with open(file, "rb") as stream:
                lines = stream.read(2 * BYTES_MAX).split(b"\n")
        except FileNotFoundError:
            continue
        for line in filter(None, lines):
            entry = parse(line)
            damaged += entry is None
            entries += [entry] if entry else []
    return entries, damaged


def parse(line: bytes) -> dict[str, Any] | None:
    """The entry of one line; None if the line is damaged."""
    try:
        if len(line) > LINE_BYTES_MAX:
            return None
        entry = json.loads(line.decode())
        seconds_of(entry["at"])
        return entry if isinstance(entry["why"], str) and all(key in entry for key in FACTS[entry["kind"]]) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _sane(number: Any) -> bool:
    """A damaged line may have any number where a duration should be: none at all, or one that no float can hold."""
    return isinstance(number, (int, float)) and 0 <= number < DURATION_MAX


def with_durations(entries: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    """The views and modes, each with ``lasted_s`` (of the present ones: so far) and ``ended``; views with their outage.

    The daemon measured a mode's length. Lengths of views, and of modes whose daemon died, come from the wall clock, which may
    have been set in between. A daemon's start ends the mode before it.
    """
    out: list[dict[str, Any]] = []
    for n, entry in enumerate(entries):
        rest = entries[n + 1 :]
        if entry["kind"] == "view":
            ends = next((e for e in rest if e["kind"] == "view" and e["view"] != entry["view"]), None)
            served = next((e for e in rest if e["kind"] == "serving" and e["view"] == entry["view"]), None)
            row = {**entry, "outage_ms": served and served["outage_ms"], "waited_for": served["why"] if served else ""}
            again = any(e["kind"] == "view" and e["view"] == entry["view"] for e in out)
            if again and entry["cause"] == "found leading":
                continue  # only this daemon started again
        elif entry["kind"] == "mode":
            ends = next((e for e in rest if e["kind"] in ("mode", "start")), None)
            row = dict(entry)
        else:
            if entry["kind"] in MOMENTS:
                out.append({**entry, "lasted_s": 0.0, "ended": True})
            continue
        until = seconds_of(ends["at"]) if ends else now
        lasted = round(max(0.0, until - seconds_of(entry["at"])), 3)
        if entry["kind"] == "mode" and ends and _sane(ends.get("before_s")):
            lasted = ends["before_s"]
        out.append({**row, "lasted_s": lasted, "ended": ends is not None})
    return out


def duration(seconds: float) -> str:
    """For the operator: two units at most."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for unit, size, next_unit, next_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} {seconds % size // next_size:.0f} {next_unit}"
    raise AssertionError("not reached")


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines for the operator. ``rows``: from :func:`with_durations`."""
    out = [f"{'when (UTC)':<24}  {'what':<14}  {'lasted':<12}  why"]
    for row in rows:
        what, why = _what_and_why(row)
        lasted = "" if row["kind"] in MOMENTS else duration(row["lasted_s"]) + ("" if row["ended"] else " so far")
        out.append(plain(f"{row['at']:<24}  {what:<14}  {lasted:<12}  {why}"))
    return out


def line_of(entry: dict[str, Any]) -> str:
    """One entry as it happened, for the operator."""
    what, why = _what_and_why(entry)
    if entry["kind"] == "mode" and entry["before"] is not None and _sane(entry["before_s"]):
        why += f" ({entry['before']} before, for {duration(entry['before_s'])})"
    return plain(f"{entry['at']:<24}  {what:<14}  {why}")


def _what_and_why(entry: dict[str, Any]) -> tuple[str, str]:
    if entry["kind"] == "start":
        return "daemon", entry["why"]
    if entry["kind"] in ("mode", "guest"):
        return str(entry["mode" if entry["kind"] == "mode" else "what"]), entry["why"]
    waited = f"clients waited {entry['outage_ms']:.0f} ms" if _sane(entry.get("outage_ms")) else ""
    waited_for = entry["why"] if entry["kind"] == "serving" else entry.get("waited_for", "")
    told = ["serving"]
    if entry["kind"] == "view":
        told = [f"{entry['leader']} leads: {entry['cause']}" + (f", {entry['why']}" if entry["why"] else "")]
    return f"view {entry['view']}", "; ".join([*told, *filter(None, (waited, waited_for))])
