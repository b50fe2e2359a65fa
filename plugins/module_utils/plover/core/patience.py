# SPDX-License-Identifier: GPL-3.0-or-later
"""How long output may wait for the secondary's VM to say it, too, before a syncvm is due. Learnt. Pure.

The secondary lags behind the leader: by next to nothing as a rule, by 30 to 45 ms after a load under TCG, whose translated code a
load throws away. Less patience than that, and each syncvm begins the same race anew: nothing is ever agreed on.
"""

from __future__ import annotations

LAG_S_FIRST, LAG_S_MIN = 0.05, 0.005
HALF_LIFE_S = 1.0  # of a lag in memory: of about the time between two syncvms, so the one after a load is remembered
PATIENCE = 2.0  # lags
PATIENCE_S_MAX = 0.1


class Patience:
    """Times in seconds."""

    def __init__(self, target_s: float) -> None:
        """``target_s``: output may wait as long in any case."""
        self._max_s = max(target_s, PATIENCE_S_MAX)
        self._lag_s, self._learnt_at = LAG_S_FIRST, 0.0
        self._runs_since = 0.0

    def loaded(self, now: float) -> None:
        """The secondary's VM runs on from a syncvm."""
        self._runs_since = now

    def agreed(self, since: float, now: float) -> None:
        """Output that was held from ``since`` on is agreed on."""
        faded_s = self._lag_s * 0.5 ** ((now - self._learnt_at) / HALF_LIFE_S)
        self._lag_s = max(LAG_S_MIN, faded_s, now - max(since, self._runs_since))
        self._learnt_at = now

    def ran_out(self) -> None:
        """Too soon, maybe: what is given up on is never seen to be agreed on."""
        self._lag_s = min(2 * self._lag_s, self._max_s)

    @property
    def limit_s(self) -> float:
        return min(PATIENCE * self._lag_s, self._max_s)

    def over(self, since: float, now: float) -> bool:
        """Output has been held from ``since`` on, and has waited enough."""
        return now - max(since, self._runs_since) > self.limit_s
