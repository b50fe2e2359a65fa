# SPDX-License-Identifier: GPL-3.0-or-later
"""on_event_command and on_event_url: what is refused, and that the refusal names the remedy and no password."""

from __future__ import annotations

import pytest
from plover.config.settings import Config
from plover.errors import ConfigError
from settings import settings


def problems(**changes):
    try:
        Config(settings("primary", **changes))
    except ConfigError as error:
        return str(error).splitlines()
    return []


def test_by_default_nobody_is_told():
    config = Config(settings("primary"))
    assert (config.on_event_command, config.on_event_url, config.on_event_timeout_s) == ([], "", 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"on_event_command": ["/usr/local/sbin/plover-event"]},
        {"on_event_command": ["/bin/sh", "-c", "logger \u00e9"]},
        {"on_event_url": "http://127.0.0.1:8080"},
        {"on_event_url": "https://events.example.com/a/b?c=d%20e"},
        {"on_event_url": "https://[2001:db8::1]:8443/x"},
        {"on_event_command": ["/x"], "on_event_url": "https://a/", "on_event_timeout_s": 60},
    ],
    ids=str,
)
def test_good_ones(changes):
    assert problems(**changes) == []


@pytest.mark.parametrize(
    "command, words",
    [
        (["plover-event"], "on_event_command: 'plover-event' must be an absolute path"),
        (["/x", 7], "on_event_command: must be a list of words, e.g. ["),
        (["/x", ""], "on_event_command: must be a list of words"),
        (["/x", "a\0b"], "on_event_command: must be a list of words"),
        (["/x"] * 65, "on_event_command: is longer than 64 words of 1024 characters; put what it does into a script"),
        (["/x", "a" * 1025], "on_event_command: is longer than 64 words of 1024 characters"),
    ],
    ids=lambda value: "",
)
def test_a_command_that_cannot_be_run(command, words):
    (problem,) = problems(on_event_command=command)
    assert problem.startswith(words)


@pytest.mark.parametrize(
    "url, words",
    [
        ("ftp://a/b", "must begin with http:// or https://; for anything else use on_event_command"),
        ("events.example.com", "must begin with http://"),
        ("https://", "names no host and port"),
        ("https:///path", "names no host and port"),
        ("https://a:0/", "names no host and port"),
        ("https://a:99999/", "is no URL ("),
        ("https://[::1/", "is no URL ("),
        ("https://hush:hush@a/", "has a user name or password in it, which"),
        ("https://hush@a/", "has a user name or password in it, which"),
        ("https://a/b c", "must be at most 2048 printable ASCII characters, without spaces"),
        ("https://a/\r\nHost: b", "character 11 is a control character"),
        ("https://a/\0", "character 11 is a control character"),
        ("https://\u00e9/", "must be at most 2048 printable"),
        ("https://a/" + "b" * 2048, "must be at most 2048 printable"),
    ],
    ids=lambda value: value[:20].encode("unicode_escape").decode(),
)
def test_a_url_that_nobody_can_be_told_at(url, words):
    (problem,) = problems(on_event_url=url)
    assert problem.startswith(f"on_event_url: {words}") and "hush" not in problem
    assert "on_event_command" in problem or "password" not in problem
