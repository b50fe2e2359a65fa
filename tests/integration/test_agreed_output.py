# SPDX-License-Identifier: GPL-3.0-or-later
"""Output that both VMs have sent leaves without a syncvm, and a failover at any moment loses nothing of it."""

from __future__ import annotations

import random
import threading
import time

from harness import Redis, connect

SETTINGS = {"output_release": "agreed", "syncvm_interval_ms_max": 10_000}
CLIENTS = 4
TRIES = 200
BOOT_S = 240.0  # on a busy machine


class Writer(threading.Thread):
    """Writes on one connection until it is told to end; ``told``: what it was told, in order."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.number, self.told, self.error = number, [], ""
        self._client, self.ends = Redis(60.0), False

    def run(self) -> None:
        try:
            while not self.ends:
                n = len(self.told)
                if self._client.ask("SET", f"w{self.number}-{n}", f"v{n}" * 10) != b"+OK":
                    self.error = "SET was refused"
                self.told.append(int(self._client.ask("INCR", "counter")[1:]))
        except (OSError, ValueError) as error:
            self.error = repr(error)

    def end(self) -> None:
        self.ends = True
        self.join(90)
        assert not self.is_alive() and not self.error, (self.number, self.error)


def answered_without_a_syncvm(group, client) -> bool:
    before = group.status("primary")["syncvms"]
    assert client.ask("SET", "k", str(before)) == b"+OK"
    return group.status("primary")["syncvms"] == before


def test_answers_leave_between_syncvms_and_none_is_lost_with_the_leader(new_group):
    group = new_group(**SETTINGS)
    group.start()
    group.wait("primary", BOOT_S, service="protected")
    client = connect(BOOT_S)
    assert any(answered_without_a_syncvm(group, client) for _ in range(TRIES)), group.story()
    status = group.status("primary")
    assert status["output_release"] == "agreed" and status["output"]["agreed_frames"] > 0, status["output"]

    writers = [Writer(n) for n in range(CLIENTS)]
    for writer in writers:
        writer.start()
    time.sleep(random.uniform(0.5, 4.0))
    group.power_off("primary")
    group.wait("secondary", service="degraded", role="leader")
    told = [len(writer.told) for writer in writers]
    time.sleep(1.0)
    for writer in writers:
        writer.end()
    assert all(len(writer.told) > before > 0 for writer, before in zip(writers, told)), "the same connections go on"

    lost = [
        f"w{writer.number}-{n}"
        for writer in writers
        for n in range(len(writer.told))
        if client.ask("GET", f"w{writer.number}-{n}") != (f"v{n}" * 10).encode()
    ]
    assert lost == []
    counts = sorted(count for writer in writers for count in writer.told)
    assert counts == list(range(1, len(counts) + 1)), "two were told the same count, or one is missing"
    assert all(writer.told == sorted(writer.told) for writer in writers)

    group.start("primary")
    group.wait("secondary", BOOT_S, service="protected")
    assert client.ask("SET", "after", "x") == b"+OK"
    assert group.audit()["mismatching"] == 0


def test_beside_a_secondary_that_reports_nothing_all_output_waits_for_syncvms(new_group):
    """As one of an earlier version."""
    group = new_group(**SETTINGS)
    group.start("primary", "witness")
    group.start("secondary", replica="silent_replica")
    group.wait("primary", BOOT_S, service="protected")
    client = connect(BOOT_S)
    for n in range(5):
        assert client.ask("SET", f"k{n}", "v") == b"+OK"
    status = group.status("primary")
    assert not status["output"]["agreed_on"] and status["output"]["agreed_frames"] == 0 and status["syncvms"] >= 5
    group.power_off("primary")
    assert client.ask("GET", "k4") == b"v"
