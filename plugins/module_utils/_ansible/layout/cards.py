# SPDX-License-Identifier: GPL-3.0-or-later
"""The key C(nics) of one VM, and sentences about its cards in the words of an inventory. Pure."""

from __future__ import annotations

import re

from ...plover.config.nics import NICS_MAX, SETTING_OF
from ..nics import FURTHER, NICS, OF_A_VM
from .known import NO_KEYS, close_to

KEYS = tuple(SETTING_OF)
_EXAMPLE = 'like nics: [{mac: "52:54:00:70:6c:01"}, {mac: "52:54:00:70:6c:02", bridge: br1}]'
_PLACE = re.compile(rf"(?:settings\.)?{FURTHER}\[(\d+)\]")


def problems(at, vm):
    """What keeps the cards from being judged one by one; empty if nothing does, or there are no C(nics)."""
    given = vm.get(NICS)
    if given is None:
        return []
    where = f"{at}.{NICS}"
    if not isinstance(given, list) or not given:
        return [f"{where}: must be a list with a mapping for each card, {_EXAMPLE}"]
    if len(given) > NICS_MAX:
        return [f"{where}: {len(given)} are too many; a VM has at most {NICS_MAX} cards"]
    out = [f"{where}[{n}]: must be a mapping, {_EXAMPLE}" for n, card in enumerate(given) if not isinstance(card, dict)]
    for n, card in enumerate(given):
        out += _keys(f"{where}[{n}]", card) if isinstance(card, dict) else []
    settings = vm.get("settings")
    if isinstance(settings, dict) and FURTHER in settings:
        out.append(f"{at}.settings.{FURTHER}: the roles make it; remove it and set {NICS} of the VM")
    for key, setting in SETTING_OF.items():
        if key in OF_A_VM and vm.get(key) not in (None, ""):
            out.append(f"{at}.{key}: belongs to one of the cards in {NICS}; write it as {where}[0].{key}, or remove {NICS}")
        elif key not in OF_A_VM and isinstance(settings, dict) and setting in settings:
            out.append(f"{at}.settings.{setting}: belongs to one of the cards in {NICS}; write it as {where}[0].{key}, or remove {NICS}")
    return out


def _keys(where, card):
    out = []
    for key in card:
        if key not in KEYS:
            meant = next((short for short, setting in SETTING_OF.items() if setting == key), "")
            text = f"write {meant}" if meant else NO_KEYS.get(key) or close_to(key, KEYS) or f"known are {', '.join(KEYS)}"
            out.append(f"{where}.{str(key)[:60]}: is not known; {text}")
    if card.get("mac") in (None, ""):
        out.append(f"{where}.mac: is missing; every card needs it")
    return out


def in_words(at, lines):
    """``lines`` about a VM that was spread, as ones about its C(nics)."""
    return [_first_card(at, _PLACE.sub(lambda found: f"{NICS}[{int(found[1]) + 1}]", line)) for line in lines]


def _first_card(at, line):
    for key, setting in SETTING_OF.items():
        for name in (f"{at}.{key}", f"{at}.settings.{setting}"):
            if line.startswith(f"{name}:"):
                return f"{at}.{NICS}[0].{key}{line[len(name) :]}"
    return line
