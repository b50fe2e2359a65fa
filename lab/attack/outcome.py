# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attack is, how it ended, and from results to the table a person reads and the result.json a program reads. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

VIEW, COPIES, DAEMONS = "view", "copies", "daemons"  # what an attack's own steps may change without that being harm
WHAT_CHARS = 110


class Outcome(NamedTuple):
    """``what``: what the attacker got, or what stopped it."""

    succeeded: bool
    what: str


def won(what: str) -> Outcome:
    return Outcome(True, what)


def held(what: str) -> Outcome:
    return Outcome(False, what)


class Attack(NamedTuple):
    """``disturbs``: which of VIEW, COPIES and DAEMONS the test itself changes, e.g. because a restart is the attacker's chance."""

    name: str
    attacker: str
    does: Callable[[Any], Outcome]
    disturbs: frozenset[str]

    @property
    def doc(self) -> str:
        return " ".join((self.does.__doc__ or "").split())


class Result(NamedTuple):
    """``harm``: sentences about the group and its clients. ``error``: the attack could not be carried out, so it proves nothing."""

    name: str
    attacker: str
    succeeded: bool
    what: str
    harm: list[str]
    error: str
    seconds: float

    @property
    def verdict(self) -> str:
        return "SUCCEEDED" if self.succeeded else "not run" if self.error else "withstood"


def register(into: dict[str, Attack], attacker: str) -> Callable[..., Any]:
    """A decorator for the attacks of ``attacker``. Arguments of the decorator are what the attack ``disturbs``."""

    def attack(*disturbs: str) -> Callable[..., Any]:
        def note(does: Callable[[Any], Outcome]) -> Callable[[Any], Outcome]:
            name = f"{attacker}-{does.__name__}".replace("_", "-")
            into[name] = Attack(name, attacker, does, frozenset(disturbs))
            return does

        return note

    return attack


def judge(attack: Attack, outcome: Outcome, harm: list[str], seconds: float) -> Result:
    succeeded = outcome.succeeded or bool(harm)
    return Result(attack.name, attack.attacker, succeeded, outcome.what, harm, "", round(seconds, 1))


def failed(attack: Attack, error: str, seconds: float = 0.0, harm: list[str] | None = None) -> Result:
    """It did harm all the same, if it did."""
    return Result(attack.name, attack.attacker, bool(harm), "", harm or [], error, round(seconds, 1))


def summary(results: Iterable[Result]) -> dict[str, Any]:
    """result.json; its first three keys are a promise to others."""
    results = list(results)
    names = [r.name for r in results if r.succeeded]
    return {
        "attacks": len(results),
        "succeeded": len(names),
        "names": names,
        "errors": [r.name for r in results if r.error],
        "details": [r._asdict() for r in results],
    }


def good(result: dict[str, Any]) -> bool:
    return result["attacks"] > 0 and not result["succeeded"] and not result["errors"]


def table(results: Iterable[Result]) -> str:
    """Attack x result, one line each, and a last line over all."""
    results = list(results)
    lines = [f"{'attack':<46}{'result':<12}{'s':>6}  what the attacker got, or what stopped it"]
    for one in results:
        said = "; ".join([*([one.error] if one.error else [one.what]), *one.harm])
        lines.append(f"{one.name:<46}{one.verdict:<12}{one.seconds:>6}  {_short(said)}")
    out = summary(results)
    lines.append(f"{out['attacks']} attacks, {out['succeeded']} succeeded, {len(out['errors'])} could not be carried out")
    return "\n".join(lines)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WHAT_CHARS else text[: WHAT_CHARS - 3] + "..."
