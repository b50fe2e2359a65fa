# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter's settings: what is wrong is refused with its name and a remedy, all at once."""

from __future__ import annotations

import json

import pytest
from plover.errors import ConfigError
from plover.exporter import settings


def parsed(**values):
    return settings.parse(json.dumps(values).encode(), "settings.json")


def test_defaults():
    found = parsed()
    assert (found.listen_address, found.listen_port, found.transport, found.vms) == ("127.0.0.1", 9742, "tls", ())


@pytest.mark.parametrize(
    "values, words",
    [
        ({"listen_port": 80}, "listen_port: 80 is out of range; choose 1024 to 65535"),
        ({"listen_port": True}, "listen_port: must be of type int, not bool"),
        ({"listen_address": "example"}, "listen_address: 'example' is no IPv4 or IPv6 address"),
        ({"listen_address": "10.0.0.1", "transport": "off"}, "transport: off, but 10.0.0.1 is no loopback address; set transport: tls"),
        ({"transport": "http"}, "transport: 'http' is not one of tls, off"),
        ({"transport": "off", "client_certificates": "required"}, "client_certificates: required needs transport: tls"),
        ({"run_dir": "run"}, "run_dir: 'run' is no absolute path"),
        ({"vms": ["../etc"]}, "vms: must be a list of at most 64 names"),
        ({"vms": [[]]}, "vms: must be a list of at most 64 names"),
        ({"listen": 1}, "listen: unknown setting; remove it (known: listen_address"),
    ],
)
def test_what_is_wrong_is_refused(values, words):
    with pytest.raises(ConfigError) as error:
        parsed(**values)
    assert str(error.value).startswith(f"settings.json: {words}")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 60_000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ConfigError, match="settings.json: "):
        settings.parse(text, "settings.json")


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        parsed(listen_port=1, run_dir="x", vms=["A"])
    assert len(str(error.value).splitlines()) == 3
