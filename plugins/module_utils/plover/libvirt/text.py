# SPDX-License-Identifier: GPL-3.0-or-later
"""An import as YAML, with its notes as comments. Pure. The hosts have no library for YAML, and the entry needs little of it."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

from .notes import Imported

WIDTH = 120
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./+-]*\Z")
_NOT_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def yaml_of(found: Imported) -> str:
    """A list with one item, as it stands below plover_vms."""
    out: list[str] = []
    for heading, notes in (("In the way", found.in_the_way), ("Left out", found.left_out), ("To do", found.to_do)):
        out += _comments(heading, notes)
    lines = _mapping(found.vm) or ["{}"]
    return "\n".join([*out, f"- {lines[0]}", *(f"  {line}" for line in lines[1:])])


def data_of(found: Imported) -> dict[str, Any]:
    """For a program."""
    notes = {key: [{"what": what, "why": why} for what, why in getattr(found, key)] for key in ("left_out", "in_the_way", "to_do")}
    return {"ok": not found.in_the_way, "vm": found.vm, **notes}


def lines_of(notes: list[tuple[str, str]]) -> list[str]:
    return [f"{what}: {why}" for what, why in notes]


def _comments(heading: str, notes: list[tuple[str, str]]) -> list[str]:
    if not notes:
        return []
    wrap = textwrap.TextWrapper(WIDTH, initial_indent="# - ", subsequent_indent="#   ", break_on_hyphens=False)
    return [f"# {heading}:", *(line for note in lines_of(notes) for line in wrap.wrap(note)), "#"]


def _mapping(values: dict[str, Any]) -> list[str]:
    out = []
    for key, value in values.items():
        if isinstance(value, dict):
            out += [f"{key}:", *(f"  {line}" for line in _mapping(value))]
        elif isinstance(value, list):
            out.append(f"{key}:")
            for item in value:
                first, *others = _mapping(item) or ["{}"]  # of a card nothing may be of use
                out += [f"  - {first}", *(f"    {line}" for line in others)]
        else:
            out.append(f"{key}: {_scalar(value)}")
    return out


def _scalar(value: Any) -> str:
    """A text that YAML could take for something else is quoted; JSON's quotes are YAML's, too."""
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _NOT_TEXT:
        return value
    return json.dumps(value)
