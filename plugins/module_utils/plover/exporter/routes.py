# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of plover-exporter, and the answers to them. All are read-only, and come from what is known already."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from importlib import resources

from .. import __version__
from ..core.status import OFF
from . import metrics
from . import seen as look
from .seen import Seen
from .watch import Watch
from .web_server import Answer, Request, refusal

PLAIN, JSON = "text/plain; charset=utf-8", "application/json"
API = f"/api/v{look.API_VERSION}"
STRICT = "protected"  # the value of ?level= with which a service that is only degraded does not count as ready
LOOK_S, TELL_S = 0.2, 1.0
STREAM_S = 3600.0


class Routes:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._openapi = resources.files(__package__).joinpath("openapi.json").read_bytes()
        self._page = resources.files(__package__).joinpath("page.html").read_bytes()
        self._policy = policy(self._page.decode())
        self._fixed: dict[str, Callable[[Request], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/readyz": self._ready,
            "/": lambda request: Answer(HTTPStatus.OK, "text/html; charset=utf-8", self._page, (self._policy,)),
            f"{API}/vms": self._vms,
            f"{API}/events": lambda request: Answer(HTTPStatus.OK, "text/event-stream", b"retry: 1000\n\n", stream=self._events()),
            f"{API}/openapi.json": lambda request: Answer(HTTPStatus.OK, JSON, self._openapi),
        }

    def answer(self, request: Request) -> Answer:
        known = self._fixed.get(request.path)
        return known(request) if known else self._below(request.path.split("/"))

    def _metrics(self, request: Request) -> Answer:
        content_type, body = metrics.text(self._watch.all(), request.headers.get("accept", ""))
        return Answer(HTTPStatus.OK, content_type, body)

    def _health(self, request: Request) -> Answer:
        """Of the exporter itself."""
        if self._watch.hangs:
            return _said(HTTPStatus.SERVICE_UNAVAILABLE, "the daemons have not been asked for a while")
        return _said(HTTPStatus.OK, self._watch.problem or f"plover-exporter {__version__}")

    def _ready(self, request: Request) -> Answer:
        """Of one VM, or the worst of all VMs on this host. The header Plover-Exit-Status is the exit status of `ploverctl status`."""
        name = request.query.get("vm")
        found = self._watch.all() if name is None else list(filter(None, [self._watch.one(name)]))
        if not found:
            return refusal(HTTPStatus.NOT_FOUND) if name else _ready(2, "no VM was found on this host", strict=False)
        worst: Seen = max(found, key=lambda seen: (seen.exit_status, seen.service != OFF))  # one that is off counts if all are
        strict, sentence = request.query.get("level") == STRICT, f"{worst.name}: {worst.service}"
        return _ready(worst.exit_status, sentence, strict, served=worst.service != OFF)

    def _vms(self, request: Request) -> Answer:
        return _json(self._all())

    def _all(self) -> look.Json:
        now = time.monotonic()
        vms = [look.vm(seen, now) for seen in self._watch.all()]
        return {"version": look.API_VERSION, "exporter": __version__, "problem": self._watch.problem, "vms": vms}

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """The same as /api/v1/vms, again and again; at once when something has changed. The client comes back when it ends."""
        end = time.monotonic() + STREAM_S
        told_at, known = float("-inf"), None
        while time.monotonic() < end:
            news = [(seen.name, seen.service, seen.number("view"), seen.answers) for seen in self._watch.all()]
            if news != known or time.monotonic() - told_at >= TELL_S:
                known, told_at = news, time.monotonic()
                yield f"event: vms\ndata: {json.dumps(self._all(), allow_nan=False)}\n\n".encode()
            await asyncio.sleep(LOOK_S)

    def _below(self, words: list[str]) -> Answer:
        """/api/v1/vms/NAME, and its history and samples."""
        seen = self._watch.one(words[4]) if words[:4] == f"{API}/vms".split("/") and len(words) in (5, 6) else None
        if seen is None or words[5:] not in ([], ["history"], ["samples"]):
            return refusal(HTTPStatus.NOT_FOUND)
        now = time.monotonic()
        if words[5:] == ["samples"]:
            samples = [each.shown(now) for each in self._watch.samples(seen.name)]
            return _json({"version": look.API_VERSION, "name": seen.name, "samples": samples})
        if words[5:]:
            return _json({"version": look.API_VERSION, "name": seen.name, "entries": self._watch.history(seen.name)})
        return _json({"version": look.API_VERSION, "vm": look.vm(seen, now)})


def policy(page: str) -> str:
    """The page's own script and style, and nothing else, whatever a text on it says."""
    own = [f"{tag}-src {' '.join(map(_source, re.findall(f'<{tag}>(.*?)</{tag}>', page, re.DOTALL)))}" for tag in ("script", "style")]
    return f"Content-Security-Policy: default-src 'none'; {'; '.join(own)}; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _ready(code: int, sentence: str, strict: bool, served: bool = True) -> Answer:
    ready = served and (code == 0 or (code == 1 and not strict))
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return _said(status, sentence, f"Plover-Exit-Status: {code}")


def _said(status: HTTPStatus, sentence: str, *headers: str) -> Answer:
    return Answer(status, PLAIN, f"{sentence}\n".encode(), headers)


def _json(value: look.Json) -> Answer:
    return Answer(HTTPStatus.OK, JSON, json.dumps(value, allow_nan=False).encode() + b"\n")
