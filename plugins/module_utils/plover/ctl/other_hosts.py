# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs of other hosts for ``ploverctl top``: each host's plover-exporter is asked for /api/v1/vms, all of them at once."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .places import Place
from .reply import Reply, at, number, text

CA, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
PATH = "/api/v1/vms"
ANSWER_S = 2.0
ANSWER_BYTES_MAX = 4 << 20
READ_BYTES = 65_536
HOSTS_MAX = 32
VMS_MAX = 64  # of one host
LAST = ("pause_ms", "dirty_pages", "divergent_pages", "bytes")
Row = tuple[str, Reply]  # name in the table, and what its daemon said


class OtherHosts:
    def __init__(self, places: Iterable[Place], tls_folder: Path, name: str | None) -> None:
        """``name``: only this VM. Raises ConfigError if TLS is needed and the folder's files cannot be used."""
        self._places, self._name = list(dict.fromkeys(places)), name
        if len(self._places) > HOSTS_MAX:
            raise ConfigError(f"--host: {len(self._places)} hosts are too many; at most {HOSTS_MAX} are asked")
        self._context = _context(tls_folder) if any(one.secure for one in self._places) else None

    def __bool__(self) -> bool:
        return bool(self._places)

    def ask_all(self) -> list[Row]:
        """The VMs of each host, in the hosts' order. A host that does not answer is a row, too."""
        if not self._places:
            return []
        with ThreadPoolExecutor(HOSTS_MAX, "ask") as threads:
            return [row for rows in threads.map(self._ask, self._places) for row in rows]

    def _ask(self, one: Place) -> list[Row]:
        try:
            found = _vms(_get(one, self._context if one.secure else None, time.monotonic() + ANSWER_S))
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            return [(f"?@{one.shown}", {"ok": False, "error": f"no answer from plover-exporter on {one.shown}: {_why(error)}"})]
        return [(f"{text(vm, 'name')}@{one.shown}", reply_of(vm)) for vm in found if self._name is None or text(vm, "name") == self._name]


def _context(folder: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(folder / CA))
        if (folder / CERTIFICATE).exists() and (folder / KEY).exists():  # for exporters that ask for one
            context.load_cert_chain(folder / CERTIFICATE, folder / KEY, lambda: b"")  # a passphrase is not asked for
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--tls-folder: {folder}: {CA} cannot be used ({error}); role 'monitoring' writes it on the hosts, copy it from there"
        ) from error
    return context


def _get(one: Place, context: ssl.SSLContext | None, end: float) -> bytes:
    kind = http.client.HTTPConnection(one.host, one.port, timeout=ANSWER_S)
    connection = http.client.HTTPSConnection(one.host, one.port, timeout=ANSWER_S, context=context) if context else kind
    try:
        connection.request("GET", PATH, headers={"Connection": "close"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise ValueError(f"it answered with status {answer.status}")
        out = b""
        while chunk := answer.read1(READ_BYTES):
            out += chunk
            if len(out) > ANSWER_BYTES_MAX or time.monotonic() > end:
                raise ValueError(f"its answer is over {ANSWER_BYTES_MAX} bytes, or takes longer than {ANSWER_S:g} s")
        return out
    finally:
        connection.close()


def _vms(answer: bytes) -> list[Any]:
    found = at(json.loads(answer), "vms")
    if not isinstance(found, list):
        raise ValueError("its answer has no list of VMs")
    return found[:VMS_MAX]


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, socket.timeout):
        return f"none within {ANSWER_S:g} s"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def reply_of(vm: Any) -> Reply:
    """What the API says of a VM, in the form of a daemon's status."""
    if at(vm, "answers") is not True:
        return {"ok": False, "error": text(vm, "sentence")}
    syncvm = at(vm, "syncvm")
    return {
        "ok": True,
        **{key: at(vm, key) for key in ("service", "role", "leader", "view", "in_sync", "sentence", "held")},
        "totals": {"syncvms": number(syncvm, "count")},
        "counters": {"last_syncvm_age_s": number(syncvm, "age_s"), "sent_bytes": {"all": number(syncvm, "sent_bytes")}},
        "last_syncvm": {key: number(syncvm, key) for key in LAST},
    }
