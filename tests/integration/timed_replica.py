# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon with one addition, for tests only: it writes down when it did and learnt what, on the machine's
monotonic clock, into the file 'times' of its run folder."""
from __future__ import annotations

import json

from plover.consensus.effects import Persist, Send
from plover.daemon.life import run_daemon
from plover.ports import effects as act
from plover.protocol import wire
from plover.replica.daemon import Replica

QUIET = (wire.Heartbeat, wire.HeartbeatAck, wire.Append, wire.AppendAck)


class TimedReplica(Replica):
    def _time(self, what: str) -> None:
        with open(self.config.run_path / "times", "a", encoding="utf-8") as file:
            print(json.dumps([self.loop.time(), self.config.member, what]), file=file)

    def run(self) -> None:
        if not self._executing:
            actions = self.core.take()
            for action in actions:
                if isinstance(action, (Send, act.SendData)):
                    if not isinstance(action.message, QUIET):
                        self._time(f"sends {type(action.message).__name__}")
                elif not isinstance(action, (act.Report, act.Happened, act.Inject, Persist)):
                    self._time(type(action).__name__)
            self.core._out = actions + self.core._out
        super().run()

    def answer(self, event: str, *arguments: object) -> None:
        self._time(f"<- {event}")
        super().answer(event, *arguments)

    async def _announce(self) -> None:
        self._time("announces")
        await super()._announce()


if __name__ == "__main__":
    run_daemon(TimedReplica, "replica")
