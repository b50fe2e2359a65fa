# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of plover-exporter, and the answers to them. All are read-only, and come from what is known already."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http import HTTPStatus
from importlib import resources

from .. import __version__
from . import metrics
from . import seen as look
from .seen import Seen
from .watch import Watch
from .web_server import Answer, Request, refusal

PLAIN, JSON = "text/plain; charset=utf-8", "application/json"
API = f"/api/v{look.API_VERSION}"
STRICT = "protected"  # the value of ?level= with which a service that is only degraded does not count as ready
Exit = tuple[int, str]


class Routes:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._openapi = resources.files(__package__).joinpath("openapi.json").read_bytes()
        self._fixed: dict[str, Callable[[Request], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/readyz": self._ready,
            f"{API}/vms": self._vms,
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
        worst: Seen = max(found, key=lambda seen: seen.exit_status)
        return _ready(worst.exit_status, f"{worst.name}: {worst.service}", request.query.get("level") == STRICT)

    def _vms(self, request: Request) -> Answer:
        now = time.monotonic()
        vms = [look.vm(seen, now) for seen in self._watch.all()]
        return _json({"version": look.API_VERSION, "exporter": __version__, "problem": self._watch.problem, "vms": vms})

    def _below(self, words: list[str]) -> Answer:
        """/api/v1/vms/NAME and /api/v1/vms/NAME/history."""
        seen = self._watch.one(words[4]) if words[:4] == f"{API}/vms".split("/") and len(words) in (5, 6) else None
        if seen is None or words[5:] not in ([], ["history"]):
            return refusal(HTTPStatus.NOT_FOUND)
        if words[5:]:
            return _json({"version": look.API_VERSION, "name": seen.name, "entries": self._watch.history(seen.name)})
        return _json({"version": look.API_VERSION, "vm": look.vm(seen, time.monotonic())})


def _ready(code: int, sentence: str, strict: bool) -> Answer:
    ready = code == 0 or (code == 1 and not strict)
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return _said(status, sentence, f"Plover-Exit-Status: {code}")


def _said(status: HTTPStatus, sentence: str, *headers: str) -> Answer:
    return Answer(status, PLAIN, f"{sentence}\n".encode(), headers)


def _json(value: look.Json) -> Answer:
    return Answer(HTTPStatus.OK, JSON, json.dumps(value, allow_nan=False).encode() + b"\n")
