# SPDX-License-Identifier: GPL-3.0-or-later
"""The network cards of an entry of plover_vms: those in C(nics), or the only one, whose keys are the VM's own. Pure."""

from __future__ import annotations

from ..plover.config.nics import SETTING_OF

NICS, FURTHER = "nics", "further_nics"  # key of a VM; setting of the runtime
OF_A_VM = ("mac", "bridge", "tap", "addresses")  # keys of the only card that are the VM's own; the others are settings
TAP = "plover0"
BRIDGE = "br0"


def of(vm):
    """[(its place below the VM, card)]. ``vm`` may be nonsense; what is no card is left out."""
    given = vm.get(NICS)
    if not given:
        return [("", {key: vm[key] for key in OF_A_VM if key in vm})]
    cards = given if isinstance(given, list) else []
    return [(f".{NICS}[{n}]", card) for n, card in enumerate(cards) if isinstance(card, dict)]


def tap_of(vm, number):
    """The TAP of that card, named or not."""
    cards = [card for _place, card in of(vm)]
    first = cards[0].get("tap") or TAP
    return first if number == 0 else cards[number].get("tap") or f"{first}-{number}"


def setting_of(vm, place, key, default):
    """A card's value that is a setting of the VM if that has no C(nics)."""
    card = dict(of(vm)).get(place) or {}
    given = vm.get("settings")
    return card.get(key, default) if place else (given if isinstance(given, dict) else {}).get(SETTING_OF[key], default)


def spread(vm, bridge=BRIDGE):
    """The same VM without C(nics): the first card's keys are its own, the others are the setting further_nics. ``bridge``: of cards
    that name none."""
    if not vm.get(NICS):
        return vm
    first, *further = vm[NICS]
    settings = {**(vm.get("settings") or {}), **{SETTING_OF[key]: value for key, value in first.items() if key not in OF_A_VM}}
    if further:
        cards = enumerate(further, 1)
        settings[FURTHER] = [{**card, "bridge": card.get("bridge") or bridge, "tap": tap_of(vm, n)} for n, card in cards]
    rest = {key: value for key, value in vm.items() if key != NICS}
    return {**rest, **{key: first[key] for key in OF_A_VM if key in first}, **({"settings": settings} if settings else {})}


def gathered(vm):
    """The opposite of :func:`spread`, of a VM that has further cards."""
    settings = dict(vm.get("settings") or {})
    further = settings.pop(FURTHER, None)
    if not further:
        return vm
    first = {key: vm[key] for key in OF_A_VM if vm.get(key)}
    first.update({key: settings.pop(setting) for key, setting in SETTING_OF.items() if setting in settings})
    rest = {key: value for key, value in vm.items() if key not in (*OF_A_VM, "settings")}
    return {**rest, NICS: [first, *further], **({"settings": settings} if settings else {})}
