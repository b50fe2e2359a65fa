# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of plover-exporter: one flat JSON file. All problems are reported at once, each with its remedy. Pure."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, one_line

PATH = Path("/etc/plover-exporter/settings.json")
BYTES_MAX = 64 << 10
VMS_MAX = 64
PROBLEMS_MAX = 12  # that are told at once
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}\Z")  # of a VM
TLS, OFF, REQUIRED = "tls", "off", "required"


class Setting(NamedTuple):
    kind: type[Any]
    default: Any
    help: str
    choices: tuple[str, ...] = ()


SETTINGS: dict[str, Setting] = {
    "listen_address": Setting(str, "127.0.0.1", "address that is listened on; 0.0.0.0 and :: are all of the host's"),
    "listen_port": Setting(int, 9742, "TCP port, 1024 to 65535"),
    "transport": Setting(str, TLS, "tls, or off: plain HTTP, on a loopback address only", (TLS, OFF)),
    "tls_folder": Setting(str, "/etc/plover-exporter/tls", "folder of cert.pem and key.pem, and of ca.pem for client_certificates"),
    "client_certificates": Setting(str, OFF, "required: only clients with a certificate of ca.pem are answered", (OFF, REQUIRED)),
    "run_dir": Setting(str, "/run/plover", "run_dir of the daemons: parent of their folders"),
    "vms": Setting(list, [], "VMs that this host should have; those that are found are shown in any case"),
}


class Settings(NamedTuple):
    listen_address: str
    listen_port: int
    transport: str
    tls_folder: str
    client_certificates: str
    run_dir: str
    vms: tuple[str, ...]


def parse(text: bytes, where: str | Path) -> Settings:
    """Raises ConfigError with every problem found."""
    try:
        values = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: is not JSON ({error}); run the play with role monitoring to write it anew") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: must be one JSON object of settings")
    problems = _problems(values)
    if problems:
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems[:PROBLEMS_MAX]))
    values = {**{key: row.default for key, row in SETTINGS.items()}, **values}
    return Settings(**{**values, "vms": tuple(values["vms"])})


def _problems(values: dict[str, Any]) -> list[str]:
    out = [f"{one_line(key[:40])}: unknown setting; remove it (known: {', '.join(SETTINGS)})" for key in values if key not in SETTINGS]
    for key, row in SETTINGS.items():
        value = values.get(key, row.default)
        if not isinstance(value, row.kind) or isinstance(value, bool):
            out.append(f"{key}: must be of type {row.kind.__name__}, not {type(value).__name__} ({row.help})")
        elif row.choices and value not in row.choices:
            out.append(f"{key}: {value[:40]!r} is not one of {', '.join(row.choices)}")
    return out or _check_together({**{key: row.default for key, row in SETTINGS.items()}, **values})


def _check_together(values: dict[str, Any]) -> list[str]:
    out = []
    if not 1024 <= values["listen_port"] <= 65535:
        out.append(f"listen_port: {values['listen_port']} is out of range; choose 1024 to 65535")
    for key in ("run_dir", "tls_folder"):
        if not values[key].startswith("/"):
            out.append(f"{key}: {values[key][:200]!r} is no absolute path")
    if len(values["vms"]) > VMS_MAX or not all(isinstance(name, str) and NAME.match(name) for name in values["vms"]):
        out.append(f"vms: must be a list of at most {VMS_MAX} names of VMs (lower-case letters, digits and dashes)")
    return out + _check_who_listens(values)


def _check_who_listens(values: dict[str, Any]) -> list[str]:
    try:
        address = ipaddress.ip_address(values["listen_address"])
    except ValueError:
        return [f"listen_address: {values['listen_address'][:60]!r} is no IPv4 or IPv6 address"]
    if values["transport"] == OFF and not address.is_loopback:
        return [f"transport: off, but {address} is no loopback address; set transport: tls, or listen on 127.0.0.1 behind a proxy"]
    if values["transport"] == OFF and values["client_certificates"] == REQUIRED:
        return ["client_certificates: required needs transport: tls"]
    return []
