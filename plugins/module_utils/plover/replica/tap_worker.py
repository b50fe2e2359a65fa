# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon's way to the VM's clients: it brings the TAPs up and down, reads and writes them, and announces the VM."""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Any

from ..core import shell_policy as policy
from ..dataplane.tap import Tap
from ..dataplane.tap_filter import TapFilter
from ..dataplane.taps import Taps
from ..errors import NetworkError
from ..host import bridge_port
from ..host.watchdog import Keeper
from ..ports import effects
from ..protocol import multicast
from ..protocol.frames import announcements, wrap
from .shell import Shell, TapAction

log = logging.getLogger("plover")
TAP_SLOW_MS = 200
FILTER_LOOK_S = 5.0
PORT_LOOK_S, PORT_LOOK_LATE_S = 2.0, 0.02  # while its port forwards, and while it does not
PORT_GRACE_S = 0.3  # the kernel may need a moment


class TapWorker:
    """``error``: the reason why clients cannot reach the VM."""

    def __init__(self, shell: Shell, watchdog: Keeper) -> None:
        config = shell.config
        self._shell, self._config, self._watchdog = shell, config, watchdog
        self.cards = Taps(config, shell.loop.time)
        self.error = self._late_bridge = ""
        self._work: asyncio.Queue[TapAction] = asyncio.Queue()
        # Run a script now, so that its programs are read from the disk before clients wait for a failover.
        self._work.put_nowait(effects.TapDown())
        self._reading = self._up = False
        # Reading begins and ends with each batch. An epoll of our own does that in 1 µs; add_reader and remove_reader take 7.
        self._gate = select.epoll()
        shell.loop.add_reader(self._gate.fileno(), self._readable)
        self._announcing: asyncio.Future[None] = shell.loop.create_future()
        self._watching_port: asyncio.Future[None] = shell.loop.create_future()

    def actions(self) -> dict[type, Callable[[Any], object]]:
        return {
            effects.TapUp: self._bring_up,
            effects.TapEarly: self._bring_up,
            effects.TapDown: self._work.put_nowait,
            effects.Emit: self._emit,
        }

    def _bring_up(self, action: effects.TapUp | effects.TapEarly) -> None:
        self._watchdog.arm()  # from here on the VM may speak
        self._work.put_nowait(action)

    def _emit(self, action: effects.Emit) -> None:
        rest: list[bytes] = []
        for n, run in enumerate(action.chunks):
            late = self.cards.write(run, self._shell.core.speak_until)
            if late:
                rest = [late, *action.chunks[n + 1 :]]
                break
        self._shell.loop.call_soon(self._shell.answer, "left", action.number, rest)  # first read what the members sent meanwhile

    def follow(self) -> None:
        """The core has moved on: begin or stop reading the TAP."""
        reads = policy.reads_tap(self._shell.core)
        if reads != self._reading and not self._gate.closed:
            self._reading = reads
            for tap in self.cards.each:
                if reads:
                    self._gate.register(tap.fd, select.EPOLLIN)
                else:
                    self._gate.unregister(tap.fd)

    def _readable(self) -> None:
        batch = self.cards.read_batch()
        if batch:
            self._shell.at().input(batch)
            self._shell.run()

    # ---- the scripts ----------------------------------------------------------------------------------
    async def work(self) -> None:
        while True:
            action = await self._work.get()
            self.error, began = "", self._shell.loop.time()
            try:
                await self._script(action)
            except NetworkError as error:
                log.error("%s", error)
                if isinstance(action, effects.TapUp):
                    self.error = str(error)
                    self._shell.loop.call_later(policy.TAP_RETRY_S, self._retry, action)
            finally:
                took_ms = 1000 * (self._shell.loop.time() - began)
                if took_ms > TAP_SLOW_MS:
                    log.warning("the TAP's script took %.0f ms (%s)", took_ms, type(action).__name__)

    async def watch_filters(self) -> None:
        while True:
            for tap, filter_ in zip(self.cards.each, self.cards.filters, strict=True):
                await self._look_at(tap, filter_)
            await asyncio.sleep(FILTER_LOOK_S)

    async def _look_at(self, tap: Tap, filter_: TapFilter) -> None:
        """Read its counters. Whoever loads other rules may remove it (``flush ruleset``): then it is loaded again."""
        try:
            if not await filter_.look():
                log.warning("somebody removed the filter of %s; it is loaded again", tap.name)
            filter_.error = ""
        except NetworkError as error:
            if not filter_.error:
                log.error("the VM's frames are not filtered as they should be: %s", error)
            filter_.error = str(error)

    async def _script(self, action: TapAction) -> None:
        if isinstance(action, effects.TapDown):
            self._up = False
            self._watching_port.cancel()
            await self.cards.down()
            return
        if not self._up:
            await self.cards.up()
            self._up = True
        if isinstance(action, effects.TapUp) and self._work.empty():  # else it may go down again next
            self._watching_port.cancel()
            self._shell.answer("tap_ready", self._forwards())
            self._watching_port = self._shell.spawn(self._watch_port())
        self._announce_again()

    def _announce_again(self) -> None:
        self._announcing.cancel()
        self._announcing = self._shell.spawn(self._announce())

    def _silent(self) -> Tap | None:
        """The first TAP whose port does not forward; None if all do."""
        return next((tap for tap in self.cards.each if bridge_port.state(tap.name) not in (bridge_port.FORWARDING, "")), None)

    def _forwards(self) -> bool:
        return self._silent() is None

    async def _watch_port(self) -> None:
        """A bridge with a spanning tree lets a new port forward only after twice its forward delay: clients wait for that, too."""
        began = self._shell.loop.time()
        while True:
            while self._forwards():
                await asyncio.sleep(PORT_LOOK_S)
                began = self._shell.loop.time()
            while not self._forwards():
                if not self.error and self._shell.loop.time() - began > PORT_GRACE_S:
                    self._tell_of_port()
                await asyncio.sleep(PORT_LOOK_LATE_S)
            self._port_forwards(self._shell.loop.time() - began)

    def _tell_of_port(self) -> None:
        tap = self._silent()
        if tap is None:
            return  # by now
        state = bridge_port.state(tap.name)
        self._late_bridge = tap.bridge
        self.error = f"its port in {tap.bridge} is {state}, not forwarding"
        if state in bridge_port.OF_A_SPANNING_TREE:
            self.error += "; switch its spanning tree (STP) off"
        log.error("clients cannot reach the VM: %s", self.error)

    def _port_forwards(self, waited_s: float) -> None:
        """At last. What announced the VM before was lost."""
        waited = f"its port in {self._late_bridge} forwarded after {waited_s:.1f} s" if self.error else ""
        if waited:
            log.warning("%s", waited)
        self.error = ""
        self._shell.answer("tap_reached", waited)
        self._announce_again()

    def _retry(self, action: effects.TapUp) -> None:
        if policy.retries_tap(self._shell.core, self.error, queued=not self._work.empty()):
            self._work.put_nowait(action)

    async def _announce(self) -> None:
        self._shell.observer.announcing()
        waited, asked = 0.0, False
        for at in policy.ANNOUNCE_AT_S:
            await asyncio.sleep(at - waited)
            waited = at
            while (answer := policy.announces(self._shell.at())) is policy.Announce.LATER:
                await asyncio.sleep(policy.SPEAK_LOOK_S)
            if answer is policy.Announce.NEVER:
                return
            for nic in self._config.nics:
                run = b"".join(wrap(frame, nic.number) for frame in announcements(nic.mac, nic.addresses))
                self.cards.write(run, self._shell.core.speak_until)
            asked = asked or self._ask_for_groups()

    def _ask_for_groups(self) -> bool:
        """Have the guest report its multicast groups. False if it takes no input now."""
        if not (self._reading and self._forwards()):
            return False
        self._shell.at().input(b"".join(wrap(frame, nic.number) for nic in self._config.nics for frame in multicast.queries()))
        self._shell.run()
        return True

    async def close(self) -> None:
        self._shell.loop.remove_reader(self._gate.fileno())
        self._gate.close()
        await self.cards.close()
