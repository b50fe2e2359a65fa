# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that ploverctl and the modules send to a replica daemon: one method each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..config.settings import Config
from ..core import cold_start, force, operator_calls
from ..core.director import Director
from ..core.status import DOWN, status_of_syncvm
from ..ports import effects

Reply = dict[str, Any]
ANSWER_S = 30.0


class Asked(Protocol):
    """The daemon."""

    config: Config
    loop: asyncio.AbstractEventLoop
    core: Director

    def at(self) -> Director:
        """The core, which knows the time now."""

    def run(self) -> None:
        """Carry out the core's effects."""

    def settings(self) -> Reply:
        """Changes of the settings file that count only after a restart."""

    def shell_status(self) -> Reply:
        """Status that the core does not know: ``watchdog``, ``dropped``, the VM's ``filter``, ``tap_error``, links of the members."""


class Operator:
    def __init__(self, daemon: Asked) -> None:
        self._daemon, self._config = daemon, daemon.config
        self._commands: dict[str, Callable[[], Awaitable[Reply]]] = {
            "status": self.status,
            "settings": self._settings,
            "syncvms": self._syncvms,
            "switchover": self._switchover,
            "drill": self._drill,
            "audit": self._audit,
            "audit-disks": self._audit_disks,
            "failover-price": self._force_price,
            "failover-force": self._force,
            "cold-start-price": self._cold_start_price,
            "cold-start": self._cold_start,
            "cold-start-force": lambda: self._cold_start(forced=True),
            "start": self._start,
            "shutdown": lambda: self._press(effects.PressPower()),
            "reset": lambda: self._press(effects.ResetGuest()),
        }

    async def answer(self, request: Reply) -> Reply:
        command = request.get("cmd")
        known = self._commands.get(command) if isinstance(command, str) else None
        return await known() if known else {"error": f"unknown command {command!r}"}

    # ---- queries --------------------------------------------------------------------------------------
    async def status(self) -> Reply:
        status, more = self._daemon.at().status(), self._daemon.shell_status()
        status["fencing"]["watchdog"], error = more.pop("watchdog"), more.pop("tap_error")
        status.update(more)
        if error:
            status.update(service=DOWN, sentence=f"leading, but clients cannot reach the VM: {error}")
        return status

    async def _settings(self) -> Reply:
        return self._daemon.settings()

    async def _syncvms(self) -> Reply:
        return {"syncvms": [{**status_of_syncvm(figures), "at_s": at} for at, figures in self._daemon.core.recent]}

    # ---- commands that take time --------------------------------------------------------------------------
    async def _switchover(self) -> Reply:
        error = await self._wait(self._daemon.at().switchover)
        return {"error": error} if error else {"switched": True, "view": self._daemon.core.consensus.view}

    async def _drill(self) -> Reply:
        """Only its first half; status tells of the rest."""
        error = await self._wait(self._daemon.at().drill)
        return {"error": error} if error else {"switched": True, "view": self._daemon.core.consensus.view}

    async def _audit(self) -> Reply:
        return self._audited(await self._wait(self._daemon.at().audit))

    async def _audit_disks(self) -> Reply:
        if not self._config.disks or any(disk.format != "raw" for disk in self._config.disk_list):
            return {"error": "disks: there are none, or not all are raw; only raw images are compared"}
        return self._audited(await self._wait(self._daemon.at().audit, True, seconds=self._config.join_timeout_ms / 1000 + 5))

    async def _wait(self, ask: Callable[..., None], *arguments: object, seconds: float = ANSWER_S) -> Any:
        """The core's answer. Raises asyncio.TimeoutError."""
        future = self._daemon.loop.create_future()

        def answer(result: object) -> None:
            if not future.done():
                future.set_result(result)

        ask(answer, *arguments)
        self._daemon.run()
        return await asyncio.wait_for(future, seconds)

    def _audited(self, result: Any) -> Reply:
        if isinstance(result, str):
            return {"error": result}
        return {
            "pages": self._config.guest_pages,
            "mismatching": result.mismatching,
            "untracked": result.untracked,
            "dirty_pages": result.dirty_pages,
            "divergent_pages": result.divergent_pages,
            "number": result.number,
            "pause_ms": result.pause_ms,
            **(
                {"disk_blocks": result.disk_blocks, "disk_blocks_mismatching": result.disk_blocks_mismatching} if result.disk_blocks else {}
            ),
        }

    # ---- the VM's buttons -----------------------------------------------------------------------------
    async def _start(self) -> Reply:
        error = cold_start.not_off(self._daemon.at())
        return {"error": error} if error else await self._cold_start()

    async def _press(self, button: effects.PressPower | effects.ResetGuest) -> Reply:
        """On the leader's VM alone: what comes of it reaches the secondary's by the next syncvms."""
        core = self._daemon.at()
        error = operator_calls.press(core.leading, button) if core.leading else operator_calls.not_leading(core.consensus.leader)
        self._daemon.run()
        return {"error": error} if error else {"pressed": True}

    # ---- by force -------------------------------------------------------------------------------------
    async def _force_price(self) -> Reply:
        core = self._daemon.at()
        error = force.refusal(core)
        self._daemon.run()
        return {"error": error} if error else {"price": force.price(core)}

    async def _force(self) -> Reply:
        core = self._daemon.at()
        error = force.force(core)
        self._daemon.run()
        return {"error": error} if error else {"view": core.consensus.view}

    async def _cold_start_price(self) -> Reply:
        error = cold_start.refusal(self._daemon.at(), forced=True)
        return {"error": error} if error else {"price": cold_start.price(self._daemon.core)}

    async def _cold_start(self, forced: bool = False) -> Reply:
        error = self._daemon.at().cold_start(forced)
        self._daemon.run()
        return {"error": error} if error else {"started": True}
