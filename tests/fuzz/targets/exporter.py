# SPDX-License-Identifier: GPL-3.0-or-later
"""plover-exporter: requests over HTTP, its settings, what a daemon answers it; and what it asks a daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from plover.daemon import status_server
from plover.daemon.status_server import LINE_BYTES_MAX, StatusServer
from plover.errors import ConfigError
from plover.exporter import metrics, seen, settings
from plover.exporter.seen import Seen
from plover.exporter.web_server import QUERY_MAX, BadRequestError, parse

from ..target import Target, promise
from . import group
from .control import _Writer

LOOP = asyncio.new_event_loop()
STATUS = {
    "service": "degraded",
    "role": "leader",
    "member": "primary",
    "members": ["primary", "secondary", "witness"],
    "in_sync": ["primary"],
    "linked": ["witness"],
    "view": 3,
    "views": {"failover": 1},
    "counters": {"pause": {"bounds_s": [0.01, 0.1], "counts": [1, 2, 0], "sum_s": 0.07}, "stopped_s": 0.1},
    "fill": {"phase": "live", "percent": 40},
    "tls": {"certificates": {"primary": {"not_after": 1900000000}}},
}


def http_requests(data: bytes) -> None:
    request = parse(data)
    promise(request.method in ("GET", "HEAD") and len(request.query) <= QUERY_MAX, "a request that is more than reading")
    promise(all(name == name.lower() and value.isprintable() for name, value in request.headers.items()), "a header that is not plain")


def _http_requests() -> Iterator[tuple[str, bytes]]:
    yield "metrics", b"GET /metrics HTTP/1.1\r\nHost: a:9742\r\nAccept: application/openmetrics-text; version=1.0.0,*/*;q=0.1"
    yield "ready", b"HEAD /readyz?vm=demo&level=protected HTTP/1.1\r\nHost: a"


def exporter_settings(data: bytes) -> None:
    found = settings.parse(data, "settings.json")
    promise(1024 <= found.listen_port <= 65535 and len(found.vms) <= settings.VMS_MAX, "settings out of range")


def _exporter_settings() -> Iterator[tuple[str, bytes]]:
    yield "all", json.dumps({key: row.default for key, row in settings.SETTINGS.items()}).encode()
    yield "address", b'{"listen_address": "::1", "transport": "off", "vms": ["demo"]}'


def exporter_status(data: bytes) -> None:
    """Whatever a daemon answers, it is shown in form."""
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(reply, dict):
        return
    found = Seen("demo", reply, "", 0.0)
    promise(len(json.dumps(seen.vm(found, 1.0), allow_nan=False)) < 200_000, "a long answer")
    metrics.text([found], "")
    metrics.text([found], "application/openmetrics-text")
    json.dumps(seen.entries(reply), allow_nan=False)


def _exporter_status() -> Iterator[tuple[str, bytes]]:
    yield "leader", json.dumps(STATUS).encode()
    yield "history", b'{"entries": [{"at": "2026-01-01T00:00:00.000Z", "kind": "view", "why": "x", "view": 1}]}'


async def _status() -> dict[str, Any]:
    return {"service": "protected"}


SERVER = StatusServer(group.FOLDER, group.FOLDER, _status)


async def _talk(data: bytes) -> tuple[bytes, bool]:
    reader, writer = asyncio.StreamReader(LINE_BYTES_MAX), _Writer()
    reader.feed_data(data[:1024])
    reader.feed_eof()
    status_server.PACE_S = 0.0
    await SERVER._client(reader, writer)
    return writer.got, writer.closed


def status_requests(data: bytes) -> None:
    got, closed = LOOP.run_until_complete(_talk(data))
    promise(closed, "a connection that stays open")
    for reply in got.splitlines():
        told = json.loads(reply)
        promise(told["ok"] is False or told.keys() <= {"ok", "service", "entries", "damaged", "problem"}, "an answer to another command")


def _status_requests() -> Iterator[tuple[str, bytes]]:
    yield "status", b'{"cmd": "status"}\n'
    yield "both", b'{"cmd": "history"}\n{"cmd": "status"}\n{"cmd": "switchover"}\n'


TARGETS = [
    Target("http_requests", http_requests, (BadRequestError,), _http_requests),
    Target("exporter_settings", exporter_settings, (ConfigError,), _exporter_settings, is_json=True, lines=True),
    Target("exporter_status", exporter_status, (), _exporter_status, is_json=True),
    Target("status_requests", status_requests, (), _status_requests, is_json=True),
]
