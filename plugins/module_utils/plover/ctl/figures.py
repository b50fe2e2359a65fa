# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of ``ploverctl top``: one VM at two looks, as words of a table. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..host import history
from .reply import Reply, at, number, service_of, text, texts

UNKNOWN = "-"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Look(NamedTuple):
    """``at``: seconds of a clock that is never set back."""

    at: float
    reply: Reply


class Pair(NamedTuple):
    """``before``: the look before; None at the first one."""

    now: Look
    before: Look | None

    def per_s(self, count: Callable[[Reply], float | None]) -> float | None:
        """How fast a count grew; None if that is unknown, or the daemon began anew."""
        if self.before is None or self.now.at <= self.before.at:
            return None
        new, old = count(self.now.reply), count(self.before.reply)
        return None if new is None or old is None or new < old else (new - old) / (self.now.at - self.before.at)


def syncvms(reply: Reply) -> float | None:
    return number(reply, "totals", "syncvms")


def sent_bytes(reply: Reply) -> float | None:
    """Over all kinds; None if nothing is known of any, as of a witness, which sends none."""
    kinds = at(reply, "counters", "sent_bytes")
    if not isinstance(kinds, dict):
        return None
    known = [count for kind in kinds if (count := number(kinds, kind)) is not None]
    return sum(known) if known else None


def size(count: float | None) -> str:
    if count is None:
        return UNKNOWN
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 else f"{count:.1f} {UNITS[unit]}"


def _rate(count: float | None) -> str:
    return UNKNOWN if count is None else f"{count:.1f}"


def _whole(count: float | None) -> str:
    return UNKNOWN if count is None else f"{count:.0f}"


def _age(pair: Pair) -> str:
    age_s = number(pair.now.reply, "counters", "last_syncvm_age_s")
    return UNKNOWN if age_s is None else history.duration(max(0.0, age_s))


def _last(key: str) -> Callable[[Pair], str]:
    return lambda pair: _whole(number(pair.now.reply, "last_syncvm", key))


class Column(NamedTuple):
    name: str
    cell: Callable[[Pair], str]
    right: bool = False  # a number


WHO = (
    Column("service", lambda pair: service_of(pair.now.reply)),
    Column("role", lambda pair: text(pair.now.reply, "role") or UNKNOWN),
    Column("leader", lambda pair: text(pair.now.reply, "leader") or UNKNOWN),
    Column("view", lambda pair: _whole(number(pair.now.reply, "view")), right=True),
    Column("in sync", lambda pair: ", ".join(texts(pair.now.reply, "in_sync")) or UNKNOWN),
)
FIGURES = (
    Column("last syncvm", _age, right=True),
    Column("pause ms", _last("pause_ms"), right=True),
    Column("dirty", _last("dirty_pages"), right=True),
    Column("divergent", _last("divergent_pages"), right=True),
    Column("syncvms/s", lambda pair: _rate(pair.per_s(syncvms)), right=True),
    Column("sent/s", lambda pair: size(pair.per_s(sent_bytes)), right=True),
    Column("held", lambda pair: size(number(pair.now.reply, "held", "bytes")), right=True),
)


def summary(replies: list[Reply]) -> str:
    """E.g. `3 VMs: 2 protected, 1 no answer`."""
    said = [service_of(reply) for reply in replies]
    counts = ", ".join(f"{said.count(word)} {word}" for word in dict.fromkeys(said))
    return f"{len(said)} VM{'' if len(said) == 1 else 's'}: {counts}"
