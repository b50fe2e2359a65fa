# SPDX-License-Identifier: GPL-3.0-or-later
"""A decoder as the engine sees it, and what each of them promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

LINE_MAX, TEXT_MAX = 4_200, 16_384  # of an error
BYTES_MAX = 16_384


class Broken(Exception):
    """A decoder took an input and broke its promise."""


class Target(NamedTuple):
    """``run(data)`` decodes ``data``. It may raise the documented ``errors``, and nothing else; their text fits into a log.

    ``seeds``: name -> input, from real messages (``python3 -m tests.fuzz.seeds`` writes them into the corpus).
    """

    name: str
    run: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], Iterator[tuple[str, bytes]]]
    is_json: bool = False
    bytes_max: int = BYTES_MAX
    lines: bool = False  # an error may have several lines: one for each problem


def promise(kept: object, what: str) -> None:
    if not kept:
        raise Broken(what)


def check_text(text: str, lines: bool) -> None:
    """Whoever sends nonsense must not write into our log what looks like another line, nor fill it."""
    for line in text.split("\n") if lines else [text]:
        promise(line and line.isprintable(), f"an error's text that is not printable: {text!r:.200}")
        promise(len(line) <= LINE_MAX, f"an error's text with a line of {len(line)} characters")
    promise(len(text) <= TEXT_MAX, f"an error's text of {len(text)} characters")


def run(target: Target, data: bytes) -> bool:
    """True if the input was taken, False if it was refused as documented. Raises anything else."""
    try:
        target.run(data)
    except target.errors as error:
        check_text(str(error), target.lines)
        return False
    return True
