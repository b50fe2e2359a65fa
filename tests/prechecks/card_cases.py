# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of cases.py that is about a VM's network cards."""

from __future__ import annotations

from .inventory import Case, cards, vm

AT = "plover_vms[0]"
NICS = [{"mac": "52:54:00:70:6c:01"}, {"mac": "52:54:00:70:6c:02", "bridge": "br1"}]
CARDS = [
    Case("a MAC beside nics", vm(nics=NICS, addresses=...), f"{AT}.mac", "or remove nics", "belongs to one of the cards"),
    Case("no cards", cards(), f"{AT}.nics", "a list with a mapping for each card"),
    Case("a card without MAC", cards(NICS[0], {"bridge": "br1"}), f"{AT}.nics[1].mac", "every card needs it"),
    Case("two cards with one MAC", cards(NICS[0], NICS[0]), f"{AT}.nics[1].mac", "give each card an address of its own"),
    Case("a card's key misspelt", cards(NICS[0], {**NICS[1], "brigde": "br1"}), f"{AT}.nics[1].brigde", "did you mean bridge?"),
    Case("a card in a VLAN", cards(NICS[0], {**NICS[1], "vlan": 7}), f"{AT}.nics[1].vlan", "make a bridge of that VLAN"),
    Case("an MTU that no card has", cards(NICS[0], {**NICS[1], "mtu": 20}), f"{AT}.nics[1].mtu", "68 to 65521"),
    Case("a card's address with prefix", cards({**NICS[0], "addresses": ["10.0.0.1/8"]}), f"{AT}.nics[0].addresses", "without a prefix"),
]
