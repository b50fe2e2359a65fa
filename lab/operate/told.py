# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus and Alertmanager on the lab's hosts tell: by the webhook that Alertmanager calls, and by Prometheus' API."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from ..hosts import HOSTS, NETNS, addresses
from ..netns import inside

HERE = "192.168.77.1"  # this end of the hosts' management network
PORT = 9099
BODY_BYTES_MAX = 1 << 20
ASK_S = 10.0
FIRING, RESOLVED = "firing", "resolved"


def address(host: str) -> str:
    return addresses(host)["mgmt"].partition("/")[0]


class Alert(NamedTuple):
    host: str  # whose Alertmanager told it
    name: str
    status: str
    at: float
    about: str  # a member, an address and port, or a VM


class Receiver:
    """The webhook's end. ``alerts``: all that was told, oldest first."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        names = {address(host): host for host in HOSTS}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                body = handler.rfile.read(min(int(handler.headers["Content-Length"]), BODY_BYTES_MAX))
                self.alerts += [_alert(names[handler.client_address[0]], each) for each in json.loads(body)["alerts"]]
                handler.send_response(200)
                handler.end_headers()

            def log_message(handler, *words: object) -> None:
                """Nothing: the alerts are kept."""

        self._server = inside(NETNS, lambda: ThreadingHTTPServer((HERE, PORT), Handler))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait(self, status: str, wanted: dict[str, str], hosts: Iterable[str], since: float, seconds: float) -> bool:
        """Until each of ``hosts`` has told this of all that are ``wanted``: names of alerts, with what they are about."""
        missing = {(host, name, about) for host in hosts for name, about in wanted.items()}
        end = time.monotonic() + seconds
        while missing and time.monotonic() < end:
            time.sleep(0.2)
            missing -= {(each.host, each.name, each.about) for each in self.alerts if each.status == status and each.at >= since}
        return not missing

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _alert(host: str, said: dict[str, Any]) -> Alert:
    labels = said["labels"]
    about = next(labels[key] for key in ("member", "instance", "vm", "alertname") if key in labels)
    return Alert(host, labels["alertname"], said["status"], time.time(), about)


def prometheus(host: str, path: str) -> Any:
    """The data of an answer of Prometheus' API on that host; raises OSError if there is none."""

    def ask() -> bytes:
        connection = http.client.HTTPConnection(address(host), 9090, timeout=ASK_S)
        try:
            connection.request("GET", f"/api/v1/{path}")
            return connection.getresponse().read()
        finally:
            connection.close()

    try:
        return json.loads(inside(NETNS, ask))["data"]
    except (ValueError, KeyError, http.client.HTTPException) as error:
        raise OSError(f"{host}: Prometheus answers nonsense to {path}") from error


def targets_up(host: str) -> int:
    """How many of the exporters that Prometheus there scrapes."""
    try:
        return sum(target["health"] == "up" for target in prometheus(host, "targets")["activeTargets"])
    except OSError:
        return 0  # it is just starting


def wait_targets(hosts: Iterable[str], count: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while behind := {host: found for host in hosts if (found := targets_up(host)) < count}:
        if time.monotonic() > end:
            raise SystemExit(f"not all of {count} exporters are scraped: {behind}; see journalctl -u prometheus on these hosts")
        time.sleep(0.5)


def metrics(host: str) -> list[str]:
    """Names of our metrics that Prometheus there has."""
    return [name for name in prometheus(host, "label/__name__/values") if name.startswith("plover_")]
