# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon with one addition, for tests only: it writes down when it did and learnt what, on the machine's
monotonic clock, into the file 'times' of its run folder."""

from __future__ import annotations

import json

from plover.config.settings import Config
from plover.consensus.effects import Persist, Send
from plover.daemon.life import run_daemon
from plover.ports import effects
from plover.protocol import wire
from plover.replica.daemon import Replica
from plover.replica.observer import Observer

QUIET = (wire.Heartbeat, wire.HeartbeatAck, wire.Append, wire.AppendAck)


class Times(Observer):
    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def _write(self, what: str) -> None:
        with open(self._replica.config.run_path / "times", "a", encoding="utf-8") as file:
            print(json.dumps([self._replica.loop.time(), self._replica.config.member, what]), file=file)

    def action(self, action: object) -> None:
        if isinstance(action, (Send, effects.SendData)):
            if not isinstance(action.message, QUIET):
                self._write(f"sends {type(action.message).__name__}")
        elif not isinstance(action, (effects.Report, effects.Happened, effects.Inject, Persist)):
            self._write(type(action).__name__)

    def event(self, name: str, arguments: tuple[object, ...]) -> None:
        self._write(f"<- {name}")

    def announcing(self) -> None:
        self._write("announces")


class TimedReplica(Replica):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.observer = Times(self)


if __name__ == "__main__":
    run_daemon(TimedReplica, "replica")
