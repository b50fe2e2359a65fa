# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes of the event log become lines of the log, and events for the operator's command and URL."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from ..config.settings import Config
from ..core import told_events
from ..core.status import DOWN
from ..core.told_events import Event, Standing, ToldEvents
from ..host import journal
from ..host.history import stamp
from ..host.hooks import Hooks

log = logging.getLogger("plover")
FIRST_LOOK_S = 10.0  # a daemon that starts may need so long to hear the others; until then it takes the VM to be down
END_S = 1.0


class Telling:
    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop, standing: Callable[[], Standing]) -> None:
        self._events = ToldEvents(config.name, config.member)
        self._loop, self._standing = loop, standing
        self._fields = {"PLOVER_VM": config.name, "PLOVER_MEMBER": config.member}
        self._modes = 0
        wanted = config.on_event_command or config.on_event_url
        self._hooks = Hooks(config.on_event_command, config.on_event_url, config.on_event_timeout_s) if wanted else None
        self._down_s = config.failover_budget_ms / 1000
        # A watchdog that is armed goes on while the daemon restarts, so a short one leaves less time.
        self._end_s = min(END_S, config.fence_watchdog_timeout_s / 10)

    def note(self, kind: str, why: str, facts: dict[str, Any]) -> None:
        """A note of the event log."""
        if kind == "start":
            return  # of this daemon, which knows nothing yet
        self._modes += kind == "mode"
        if kind == "view":
            self._fields = {**self._fields, "PLOVER_VIEW": str(facts["view"])}
        event = self._events.of(stamp(time.time()), kind, why, facts, self._standing())
        if event is None:
            return
        if event["event"] == DOWN:  # in a failover or switchover for a moment only, which is no outage to be told of
            after_s = FIRST_LOOK_S if told_events.is_first_look(event) else self._down_s
            self._loop.call_later(after_s, self._still, event, self._modes)
        else:
            self._tell(event)

    def _still(self, event: Event, modes: int) -> None:
        if modes == self._modes:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        level = logging.WARNING if event["event"] in told_events.LOSSES else journal.NOTICE
        log.log(level, "%s", told_events.sentence(event), extra={journal.FIELDS: told_events.fields(event)})
        if self._hooks:
            self._hooks.put(event, told_events.environment(event))

    def fields(self) -> dict[str, str]:
        """What each entry of the journal has. Any thread may ask."""
        return self._fields

    def describe(self) -> dict[str, Any]:
        """For the status."""
        return {"hooks": self._hooks.describe()} if self._hooks else {}

    async def close(self) -> None:
        if self._hooks:
            await asyncio.to_thread(self._hooks.close, self._end_s)
