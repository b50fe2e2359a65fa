# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs made from other inputs: of bytes, and of JSON, so that a change goes deeper than the parser. Pure; chance is an argument."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

NUMBERS = (0, 1, 2, 7, 8, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
PLAIN = (None, True, False, 0, 1, -1, 1.5, 255, 2**31, 2**32, 2**53, 2**63, 2**64, 10**18, 10**400)
FLOATS = (1e308, float("nan"), float("inf"), -float("inf"))
TEXTS = ("", "x", "a\0b", "a\nb", "\x1b[31m", "\ud800", "é", "0", "-1", "null", "../..", "/", "x" * 300, "%s{}", "٣")
GROUPS: tuple[Any, ...] = ([], {}, [[]], [None], [{}], {"": None}, {"x": []})
VALUES = PLAIN + FLOATS + TEXTS + GROUPS
STACKED_MAX = 6
NESTED_MAX = 1200
JSON_SHARE = 0.8


def of_bytes(rng: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One change."""
    out, at = bytearray(data), rng.randrange(len(data) + 1)
    end = min(len(out), at + rng.choice((1, 1, 2, 4, 8, 32, 4096)))
    way = rng.randrange(11)
    if way == 0 and at < len(out):
        out[at] ^= 1 << rng.randrange(8)
    elif way == 1:
        out[at:end] = rng.randbytes(end - at)
    elif way in (2, 3):
        size = rng.choice((1, 2, 4, 8))
        number = rng.choice(NUMBERS) + rng.choice((0, 0, 1, -1))
        out[at : at + size] = (number % 256**size).to_bytes(size, rng.choice(("big", "little")))
    elif way == 4:
        del out[at:end]
    elif way == 5:
        out[at:at] = out[at:end]
    elif way == 6:
        del out[at:]
    elif way == 7:
        out[at:at] = bytes([rng.randrange(256)]) * rng.choice((1, 3, 64, 4096))
    elif way == 8 and words:
        word = rng.choice(words)
        out[at : at + rng.choice((0, len(word)))] = word
    elif others:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        out[at : at + rng.choice((0, 8, len(out)))] = other[start : start + rng.choice((8, 64, len(other)))]
    return bytes(out)


def _nested(rng: random.Random) -> Any:
    value: Any = rng.choice(VALUES)
    for _level in range(rng.randrange(1, 30)):
        value = rng.choice(([value], {"x": value}))
    return value


def _value(rng: random.Random, old: Any, words: Sequence[bytes]) -> Any:
    way = rng.randrange(6)
    if way == 0 and isinstance(old, int):
        return rng.choice((old + 1, old - 1, -old, str(old), float(old % 2**64), old * 2**32))
    if way == 1 and isinstance(old, str):
        at = rng.randrange(len(old) + 1)
        return rng.choice((old[:at], old[at:], old + old, old[:at] + str(rng.choice(VALUES)) + old[at:], [old], {old: old}))
    if way == 2 and words:
        return rng.choice(words).decode("utf-8", "replace")
    return _nested(rng) if way == 3 else rng.choice(VALUES)


def _places(value: Any, found: list[tuple[Any, Any]]) -> None:
    """(container, key) of each value inside ``value``."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            _places(value[key], found)


def of_value(rng: random.Random, value: Any, words: Sequence[bytes]) -> Any:
    """One change to what JSON stands for. ``value`` itself may be changed."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list)):
        _places(value, found)
    if not found or rng.random() < 0.05:
        return _value(rng, value, words)
    where, key = rng.choice(found)
    way = rng.randrange(8)
    if way == 0:
        del where[key]
    elif way == 1 and isinstance(where, list):
        where.insert(rng.randrange(len(where) + 1), where[key])
    elif way == 1:
        where[rng.choice(words).decode("utf-8", "replace") if words else "x"] = where[key]
    elif way == 2:
        other, there = rng.choice(found)
        where[key] = json.loads(json.dumps(other[there])) if there in other or isinstance(other, list) else None
    else:
        where[key] = _value(rng, where[key], words)
    return value


def of_line(rng: random.Random, data: bytes, words: Sequence[bytes]) -> bytes:
    """One change to a line of JSON; the line as it is if it is no JSON."""
    if rng.random() < 0.02:
        return rng.choice((b"[", b'{"a":')) * rng.randrange(1, NESTED_MAX)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    try:
        return json.dumps(of_value(rng, value, words)).encode()
    except (ValueError, RecursionError):  # a number with too many digits; too deep
        return data


def of_json(rng: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One change to a text of JSON lines."""
    if rng.random() > JSON_SHARE:
        return of_bytes(rng, data, others, words)
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    way = rng.randrange(12)
    if way == 0:
        lines.insert(at, rng.choice(lines))
    elif way == 1 and others:
        lines.insert(at, rng.choice(rng.choice(others).split(b"\n")))
    elif way == 2 and len(lines) > 1:
        del lines[at]
    else:
        lines[at] = of_line(rng, lines[at], words)
    return b"\n".join(lines)


def stacked(rng: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes], is_json: bool, bytes_max: int) -> bytes:
    change = of_json if is_json else of_bytes
    for _n in range(rng.randrange(1, STACKED_MAX)):
        data = change(rng, data, others, words)
    return data[:bytes_max]
