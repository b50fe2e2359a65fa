# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a history of clients linearizable? One register per key, with reads, writes and compare-and-set. Pure.

An operation whose answer never came (``end`` infinite) is *unknown*: it may have taken effect at any time after its
start, or never. It is never taken for done. The search is Wing and Gong's with Lowe's memory of states seen: take any
operation that began before every other one ended, see whether the register allows it, go on; step back if nothing fits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

READ, WRITE, CAS = "read", "write", "cas"
UNKNOWN = float("inf")
STATES_MAX = 2_000_000


class Op(NamedTuple):
    """One operation of one client on one key.

    ``value``: what a write or cas writes. ``expected``: what a cas wants to find. ``result``: what a read returned, or
    whether a cas took effect. Times in seconds on one clock; ``end`` is UNKNOWN if no answer came. A key starts as None.
    """

    client: int
    key: str
    kind: str
    start: float
    end: float = UNKNOWN
    value: Any = None
    expected: Any = None
    result: Any = None

    @property
    def unknown(self) -> bool:
        return self.end == UNKNOWN


class Undecided(Exception):
    """The search was given up at STATES_MAX states: neither proven nor disproven."""


def check(history: Iterable[Op], initial: dict[str, Any] | None = None, states_max: int = STATES_MAX) -> str | None:
    """None if every key's history is linearizable, else why not. Raises Undecided beyond ``states_max`` states a key."""
    by_key: dict[str, list[Op]] = defaultdict(list)
    for op in history:
        if op.kind not in (READ, WRITE, CAS) or op.end < op.start:
            raise ValueError(f"no operation: {op}")
        by_key[op.key].append(op)
    for key, ops in sorted(by_key.items()):
        why = _check_key(key, _relevant(ops), (initial or {}).get(key), states_max)
        if why:
            return why
    return None


def _relevant(ops: list[Op]) -> list[Op]:
    """By start, without what can prove nothing: unknown reads, and unknown writes that nobody can have met.

    A read and a cas that hit meet the value they name; a cas that missed meets any other value.
    """
    met = {op.result for op in ops if op.kind == READ} | {op.expected for op in ops if op.kind == CAS}
    missed = max((op.end for op in ops if op.kind == CAS and not op.unknown and not op.result), default=-UNKNOWN)
    return sorted(
        (op for op in ops if not op.unknown or (op.kind != READ and (op.value in met or op.start < missed))), key=lambda op: op.start
    )


def _after(op: Op, value: Any) -> tuple[bool, Any]:
    """(does the register at ``value`` allow ``op``, the value afterwards)."""
    if op.kind == READ:
        return op.result == value, value
    if op.kind == WRITE:
        return True, op.value
    hit = value == op.expected
    return op.unknown or bool(op.result) == hit, op.value if hit else value


def _check_key(key: str, ops: list[Op], initial: Any, states_max: int) -> str | None:
    """Depth-first; a state is (operations taken, as a bit mask; the register's value)."""
    must = sum(1 << n for n, op in enumerate(ops) if not op.unknown)
    seen: set[tuple[int, Any]] = set()
    best, best_value = 0, initial
    stack: list[tuple[int, Any]] = [(0, initial)]
    while stack:
        taken, value = stack.pop()
        if taken & must == must:
            return None
        if (taken, value) in seen:
            continue
        seen.add((taken, value))
        if len(seen) > states_max:
            raise Undecided(f"key {key!r}: over {states_max} states for {len(ops)} operations")
        if (taken & must).bit_count() >= (best & must).bit_count():
            best, best_value = taken, value
        stack += _next_states(ops, taken, value)
    return _explain(key, ops, best, best_value)


def _next_states(ops: list[Op], taken: int, value: Any) -> list[tuple[int, Any]]:
    out, first_end = [], UNKNOWN
    lowest = (~taken & (taken + 1)).bit_length() - 1
    for n in range(lowest, len(ops)):
        op = ops[n]
        if taken >> n & 1:
            continue
        if op.start > first_end:  # by start: all the rest started after an open one had ended, too
            break
        first_end = min(first_end, op.end)
        allowed, after = _after(op, value)
        if allowed and after == value and not op.unknown:
            return [(taken | 1 << n, value)]  # it changes nothing, so if anything follows, it may come first
        if allowed:
            out.append((op.end, taken | 1 << n, after))
    return [state[1:] for state in sorted(out, key=lambda state: state[0], reverse=True)]  # the earliest end is tried first


def _explain(key: str, ops: list[Op], taken: int, value: Any) -> str:
    left = [op for n, op in enumerate(ops) if not taken >> n & 1 and not op.unknown][:4]
    return (
        f"key {key!r} is not linearizable: at best {taken.bit_count()} of {len(ops)} operations fit, the register then "
        f"holds {value!r}, and these do not follow: " + "; ".join(map(_say, left))
    )


def _say(op: Op) -> str:
    what = {READ: f"read -> {op.result!r}", WRITE: f"write {op.value!r}", CAS: f"cas {op.expected!r} -> {op.value!r}: {op.result}"}[op.kind]
    return f"client {op.client} {what} [{op.start:.4f}, {op.end:.4f}]"
