# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/troubleshooting.md quotes messages as the source has them: each fixed part, in order, in one text of the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from lab.paths import ROOT

VARIES = "…"
LETTERS_MIN = 8  # of fixed parts: fewer would be found anywhere
GAP = ".{0,300}?"  # a file of a role is one text: parts far from each other are no message
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = [
    message
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| Message", "| ---"))
    for message in re.findall(r"`([^`]+)`", line.split(" | ")[0])
]


def texts_of_python(source: str) -> Iterator[str]:
    """Each text, its adjacent parts joined, with VARIES for what is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%(\.\d)?[sdrf]", VARIES, node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VARIES for part in node.values)


@cache
def texts() -> tuple[str, ...]:
    out: list[str] = []
    for folder in ("plugins", "roles", "playbooks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix == ".py":
                out += texts_of_python(path.read_text(encoding="utf-8"))
            elif path.suffix in {".yml", ".j2"}:
                out.append(re.sub(r"\{\{.*?\}\}", VARIES, path.read_text(encoding="utf-8"), flags=re.DOTALL))
    return tuple(" ".join(text.split()) for text in out)


def is_said(message: str) -> bool:
    parts = [part.strip() for part in message.split(VARIES) if part.strip()]
    wanted, longest = re.compile(GAP.join(map(re.escape, parts))), max(parts, key=len)
    return any(wanted.search(text) for text in texts() if longest in text)


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message):
    assert sum(map(str.isalpha, message)) >= LETTERS_MIN, "too short to tell one message from another"
    assert is_said(message)


def test_the_page_has_the_messages():
    assert len(QUOTED) >= 30 and len(set(QUOTED)) == len(QUOTED)


def test_a_message_that_nobody_prints_is_noticed():
    assert not is_said("the moon is … days old; wait for the next one")
    assert not is_said("answers: output is held until one does leading, but no other member")


def test_parts_of_different_texts_are_no_message():
    assert list(texts_of_python('a = f"one {x} " "two"\nb = "three %d four"')) == ["one … two", "three … four", "one ", " two"]
