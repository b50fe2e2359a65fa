# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host could not be examined, from the error of ssh, sudo or a shell. Pure."""

from __future__ import annotations

import re

TEXT_MAX = 200
KINDS = (
    ("login", re.compile(r"Permission denied|[Aa]uthentication fail|Invalid/incorrect password|Host key verification")),
    ("become", re.compile(r"sudo|become|privilege escalation|su:", re.IGNORECASE)),
    ("python", re.compile(r"python\S*: (?:\S+ )?(?:not found|No such file)|interpreter", re.IGNORECASE)),
)
_PREFIX = re.compile(r"^(?:.*(?:via ssh|over ssh|Task failed|Action failed): *)+", re.DOTALL)
_WHO = re.compile(r"^\s*\S+@[\w.:-]+: ")  # ssh's USER@HOST, so that one error of many hosts is one line


def failure_of(text, connection):
    """(kind, one line). ``connection``: whether the connection to the host failed."""
    said = " ".join(_WHO.sub("", _PREFIX.sub("", str(text))).split()).rstrip(".")[:TEXT_MAX] or "no word about it"
    for kind, pattern in KINDS:
        if pattern.search(str(text)):
            return [kind, said]
    return ["unreachable" if connection else "other", said]
