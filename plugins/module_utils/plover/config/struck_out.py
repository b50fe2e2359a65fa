# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the settings others may see. Pure.

Passwords belong into files that the settings only name. But a command line (of a fence agent, a hook or the guest's kernel) and a hook's
URL may hold one all the same, and so may a setting that is not known here.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .settings import SETTINGS

STRUCK_OUT = "struck out"
_COMMANDS = ("fence_command", "on_event_command")
SECRET = (*_COMMANDS, "guest_cmdline", "on_event_url")
WORD_MIN = 4  # a shorter one is taken for no password: striking it out would leave no text
_NO_SECRET = re.compile(r"-\w|--[\w-]+|\{\w+\}")  # of a command line: the name of an option, what stands for a host
_IN_URL = re.compile(r"[/?&]")
_BETWEEN = re.compile(r"[\s=,]+")


def settings(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` without what may be secret."""
    return {key: value if key in SETTINGS and key not in SECRET else STRUCK_OUT for key, value in values.items()}


class Secrets:
    """Finds the secret words of some VMs' settings, wherever they turn up."""

    def __init__(self, several: list[dict[str, Any]]) -> None:
        """``several``: settings, of which nothing needs to be valid."""
        found = {word for values in several for key, value in values.items() for word in _words(key, value)}
        forms = {form for word in found for form in (word, json.dumps(word)[1:-1])}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def text(self, text: str) -> str:
        return self._pattern.sub(STRUCK_OUT, text) if self._pattern else text

    def value(self, value: Any) -> Any:
        """A value of JSON with the words struck out of its texts, so that it stays JSON."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.value(each) for each in value]
        return self.text(value) if isinstance(value, str) else value


def _words(key: str, value: Any) -> set[str]:
    """Those of one setting that may be secret: whole texts, and their parts, as another program may show only these."""
    if key in SETTINGS and key not in SECRET:
        return set()
    if key in _COMMANDS and isinstance(value, list):
        words = [word for word in value[1:] if isinstance(word, str) and not _NO_SECRET.fullmatch(word)]
        value = words + [word[2:] for word in words if word.startswith("-")]  # -pPASSWORD
    if key == "on_event_url":
        value = [value, *_IN_URL.split(str(value).partition("://")[2])]
    whole = set(_texts(value))
    parts = {part for text in whole for part in _BETWEEN.split(text)}
    return {word for word in whole | parts if len(word) >= WORD_MIN}


def _texts(value: Any) -> list[str]:
    if isinstance(value, (list, dict)):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in _texts(each)]
    return [str(value)] if isinstance(value, (str, int, float)) and not isinstance(value, bool) else []
