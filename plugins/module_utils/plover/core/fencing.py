# SPDX-License-Identifier: GPL-3.0-or-later
"""The external fence agent, as a newly elected leader uses it: ask, wait or go on, ask again. Sans-I/O.

The agent runs only after a failover: a leader that handed over, or came back, is known to be silent. Views fence in any
case (invariant 3); the agent makes sure that the old host itself is off (docs/fencing.md).
"""

from __future__ import annotations

from ..ports.effects import Fence

OFF, AUTOMATIC, REQUIRED = "off", "automatic", "required"
RETRY_S, RETRY_S_MAX = 1.0, 30.0


class Fencing:
    """One old leader that must be (``required``) or should be (``automatic``) fenced."""

    def __init__(self, policy: str, member: str, view: int) -> None:
        self.policy, self.member = policy, member
        self.tag = ("fence", view, member)
        self.done = False
        self.error = ""
        self.tries = 0
        self._running = False
        self._next_at = float("-inf")

    @property
    def blocks(self) -> bool:
        """The VM's output must not leave yet."""
        return self.policy == REQUIRED and not self.done

    def tick(self, now: float) -> list[Fence]:
        if self.done or self._running or now < self._next_at or (self.policy == AUTOMATIC and self.tries):
            return []
        self._running = True
        self.tries += 1
        return [Fence(self.tag, self.member)]

    def answered(self, now: float, error: str | None) -> str:
        """The agent ended; ``error``: None if it succeeded. Returns a sentence for the log."""
        self._running, self.done, self.error = False, error is None, error or ""
        if self.done:
            return f"{self.member} is fenced"
        pause_s = min(RETRY_S * 2 ** min(self.tries - 1, 10), RETRY_S_MAX)
        self._next_at = now + pause_s
        then = f"again in {pause_s:.0f} s" if self.blocks else "going on"
        return f"fencing {self.member} failed: {error}; {then} (fence_policy is {self.policy})"

    def describe(self) -> str:
        if self.done:
            return f"{self.member} is fenced"
        if self.blocks:
            return f"waiting for fence agent: {self.error or 'it runs against ' + self.member}"
        return f"{self.member} is not fenced: {self.error}" if self.error else f"running against {self.member}"
