# SPDX-License-Identifier: GPL-3.0-or-later
"""Which words of a command line of the operator's, such as the fence agent's, are secrets. Pure.

A command line is seen by all users of a host, so secrets belong into ``fence_input``. Command lines from before there was one
are not shown by a play, either.
"""

from __future__ import annotations

import os
import re

HIDDEN = "********"
_NAMED = re.compile(r"(?i)(.*[-_])?(pass|passwd|password|passphrase|pwd|secret|token|api[-_]?key)\Z")


def secrets_in(words):
    """The places of the words that are secrets, or end in one."""
    agent = os.path.basename(str(words[0])).startswith("fence_") if words else False  # theirs is -p, too
    out, follows = [], False
    for place, word in enumerate(map(str, words)):
        name, equals, value = word.partition("=")
        named = place > 0 and bool(_NAMED.match(name) or (agent and word == "-p"))
        joined = agent and not equals and bool(re.match(r"-p.", word))
        if follows or joined or (named and value):
            out.append(place)
        follows = named and not equals and word.startswith("-") and not follows
    return out


def without_secrets(words):
    hidden = secrets_in(words)
    return [_hide(str(word)) if place in hidden else word for place, word in enumerate(words)]


def _hide(word):
    name, equals, _value = word.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN
