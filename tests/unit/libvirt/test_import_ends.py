# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's on_poweroff and on_crash as ours. Without a panic device libvirt never hears of a panic, so neither do we."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from plover.libvirt.machine import ends
from plover.libvirt.notes import Notes

ISA = "<panic model='isa'/>"


def told(poweroff="", crash="", devices=""):
    parts = [f"<{tag}>{word}</{tag}>" for tag, word in (("on_poweroff", poweroff), ("on_crash", crash)) if word]
    notes = Notes()
    out = ends(ElementTree.fromstring(f"<domain>{''.join(parts)}<devices>{devices}</devices></domain>"), notes)
    return out, [str(note) for note in notes.imported({}).left_out]


@pytest.mark.parametrize(
    "poweroff, crash, devices, keys",
    [
        ("", "", "", {}),
        ("destroy", "destroy", "", {}),
        ("restart", "restart", "", {"on_poweroff": "restart"}),
        ("destroy", "", ISA, {"on_crash": "stop"}),
        ("destroy", "destroy", ISA, {"on_crash": "stop"}),
        ("destroy", "restart", "<panic/>", {"on_crash": "restart"}),
        ("destroy", "preserve", ISA, {"on_crash": "keep"}),
        ("destroy", "restart", "<panic model='hyperv'/>" + ISA, {"on_crash": "restart"}),
    ],
)
def test_what_has_a_key(poweroff, crash, devices, keys):
    out, notes = told(poweroff, crash, devices)
    assert out == keys and len(notes) == ("hyperv" in devices)


@pytest.mark.parametrize(
    "poweroff, crash, devices, keys, note",
    [
        ("preserve", "", "", {}, "'preserve': Plover does not follow it; a guest that powers itself off is off"),
        ("", "coredump-destroy", ISA, {"on_crash": "stop"}, "nobody writes the guest's memory to a file; on_crash is stop"),
        ("", "coredump-restart", ISA, {"on_crash": "restart"}, "on_crash is restart"),
        ("", "rename-restart", ISA, {"on_crash": "keep"}, "Plover does not follow it; on_crash is keep"),
        ("", "restart", "<panic model='hyperv'/>", {}, "hyperv"),
    ],
)
def test_what_is_left_out_is_told(poweroff, crash, devices, keys, note):
    out, notes = told(poweroff, crash, devices)
    assert out == keys
    (only,) = notes
    assert note.replace("'", "") in only.replace("'", "").replace('"', "")
