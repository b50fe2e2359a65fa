# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a member tells what happened: the settings on_event_command and on_event_url."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

WORDS_MAX, WORD_CHARACTERS_MAX = 64, 1024
URL_CHARACTERS_MAX = 2048
_URL = re.compile(r"[!-~]+\Z")  # printable ASCII without spaces: it becomes a line of a request
_COMMAND = "on_event_command"
_ADDRESS = "on_event_url"


def problems(values: dict[str, Any]) -> list[str]:
    return _of_command(values[_COMMAND]) + _of_url(values[_ADDRESS])


def _of_command(command: list[Any]) -> list[str]:
    if not all(isinstance(word, str) and word and "\0" not in word for word in command):
        return [f"{_COMMAND}: must be a list of words, e.g. [/usr/local/sbin/plover-event]"]
    if len(command) > WORDS_MAX or any(len(word) > WORD_CHARACTERS_MAX for word in command):
        return [
            f"{_COMMAND}: is longer than {WORDS_MAX} words of {WORD_CHARACTERS_MAX} characters; put what it does into a script, "
            "and name that"
        ]
    if command and not command[0].startswith("/"):
        return [f"{_COMMAND}: {command[0]!r} must be an absolute path, as no shell looks for it"]
    return []


def _of_url(url: str) -> list[str]:
    """The URL is not quoted: what is wrong with it may be a password."""
    if not url:
        return []
    if len(url) > URL_CHARACTERS_MAX or not _URL.match(url):
        return [f"{_ADDRESS}: must be at most {URL_CHARACTERS_MAX} printable ASCII characters, without spaces; encode others (%20)"]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return [f"{_ADDRESS}: is no URL ({error}); write it like https://events.example.com/plover"]
    if parts.scheme not in ("http", "https"):
        return [f"{_ADDRESS}: must begin with http:// or https://; for anything else use {_COMMAND}"]
    if parts.username is not None:
        return [
            f"{_ADDRESS}: has a user name or password in it, which whoever reads the settings would see; use {_COMMAND}, and let that "
            "read them from a file of its own"
        ]
    if not host or port == 0:
        return [f"{_ADDRESS}: names no host and port to connect to; write it like https://events.example.com/plover"]
    return []
