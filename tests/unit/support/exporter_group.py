# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of the three daemons of a group, as the real core and a real witness give them, for the exporter's tests."""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace

from plover.exporter.seen import Seen
from plover.replica.operator import Operator

from tests.sim.rig import protected

SHELL = {
    "watchdog": "off",
    "tap_error": "",
    "dropped": {"output_bytes": 1500, "output_frames": 2, "input_bytes": 0},
    "filter": {"check": "strict", "dropped": {"spoofed_arp": 3}, "loaded_again": 0, "error": ""},
    "overlays": {"bytes": 1 << 20, "bytes_max": 256 << 20},
    "transport": "tcp",
    "rdma": None,
    "linked": ["secondary", "witness"],
    "refused": {"secondary": {"count": 4, "last": "its certificate is refused"}},
    "link_security": "tls",
    "encrypted": {"secondary": True, "witness": True},
    "tls": {
        "mode": "only",
        "problem": "",
        "warnings": [],
        "certificates": {"primary": {"serial": "ab", "not_after": 1_900_000_000, "days_left": 300}},
    },
    "turned_away": 7,
}


def status_of(core, **shell) -> dict:
    """What the operator of a replica's daemon answers, as JSON brings it."""
    more = {**SHELL, **shell}
    daemon = SimpleNamespace(config=core.config, loop=None, core=core, at=lambda: core, shell_status=lambda: dict(more))
    work = Operator(daemon).status()
    try:
        work.send(None)
    except StopIteration as done:
        return {"ok": True, **json.loads(json.dumps(done.value))}
    raise AssertionError("a status that waits")


@functools.cache
def leader_reply() -> str:
    group = protected()
    group.until(lambda: group["primary"].core.totals["syncvms"] > 1, 10.0)
    return json.dumps(status_of(group["primary"].core))


def leader(**more) -> Seen:
    return Seen("demo", {**json.loads(leader_reply()), **more}, "", 100.0)


def silent(name: str = "other") -> Seen:
    return Seen(name, {}, "the daemon does not answer (timed out); see 'systemctl status plover-replica@other'", 90.0)
