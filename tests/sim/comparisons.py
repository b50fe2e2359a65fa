# SPDX-License-Identifier: GPL-3.0-or-later
"""Both comparisons of output, the reference and the one in C, run side by side: they must give the same results in each history."""

from __future__ import annotations

from functools import cache

from plover.core.comparison import Reference
from plover.native.comparison import NativeComparison
from plover.native.library import Native

from . import ROOT


class Differs(AssertionError):
    """The two comparisons do not agree."""


@cache
def native() -> NativeComparison:
    return NativeComparison(Native(ROOT / "native" / "build"))


def same(what: str, python: object, c: object) -> object:
    if python != c:
        raise Differs(f"{what}: {python!r:.500} by the reference, {c!r:.500} by the library")
    return python


class BothAgreements:
    def __init__(self) -> None:
        self._each = (Reference.agreement(), native().agreement())

    def _both(self, name: str, *arguments: object) -> object:
        results = []
        for each in self._each:
            try:
                results.append(getattr(each, name)(*arguments))
            except Exception as error:
                results.append(error)
        if isinstance(results[0], Exception):
            same(name, str(results[0]), str(results[1]))
            raise results[0]
        self._compare()
        return same(name, *(list(result or ()) for result in results))

    def _compare(self) -> None:
        same("differences", *(each.differences for each in self._each))
        same("is_open", *(each.is_open for each in self._each))

    def __getattr__(self, name: str) -> object:
        if name in ("differences", "is_open"):
            return getattr(self._each[0], name)
        return lambda *arguments: self._both(name, *arguments)


class Both:
    """The port of plover/ports/comparison.py."""

    agreement = BothAgreements

    def said(self, run: bytes) -> list[bytes]:
        return same("said", Reference.said(run), native().said(run))
