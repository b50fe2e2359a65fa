# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon as of a version that does not tell what its VM says: its join request does not offer it."""

from __future__ import annotations

import json
from dataclasses import replace

from plover.core.director import Director
from plover.daemon.life import run_daemon
from plover.protocol import wire
from plover.replica.daemon import Replica


def as_before(self, to: str, message: wire.Message) -> None:
    if isinstance(message, wire.JoinRequest):
        facts = {name: fact for name, fact in json.loads(message.payload).items() if name != "says"}
        message = replace(message, payload=json.dumps(facts).encode())
    send(self, to, message)


send, Director.send = Director.send, as_before

if __name__ == "__main__":
    run_daemon(Replica, "replica")
