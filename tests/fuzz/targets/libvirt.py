# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt domain that an operator imports: an entry that plover_vms takes, and notes of one printable line each, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from plover.config import disks
from plover.config.nics import SETTING_OF
from plover.config.settings import check_value
from plover.errors import ConfigError
from plover.libvirt.entry import imported
from plover.libvirt.notes import Imported
from plover.libvirt.text import yaml_of

from lab.paths import ROOT

from ..target import Target, promise

DOMAINS = ROOT / "tests" / "unit" / "libvirt" / "domains"
SETTINGS = {"name": "name", "mac": "guest_mac", "memory_mib": "guest_memory_mib", "vcpus": "guest_vcpus", "bridge": "network_bridge"}
SEEDS = ("debian-bridge", "several-cards", "centos7", "gpu-passthrough", "direct-kernel", "encrypted")


def domains(data: bytes) -> None:
    found = imported(data)
    for what, why in (*found.left_out, *found.in_the_way, *found.to_do):
        promise(what and why and what.isprintable() and why.isprintable(), "a note that a terminal would obey")
        promise(len(why) < 1000, "an endless note")
    promise(yaml.safe_load(yaml_of(found)) == [found.vm], "a text that is another entry")
    _fits(found)


def _fits(found: Imported) -> None:
    """What is in the entry is what plover_vms takes."""
    given = {SETTINGS[key]: value for key, value in found.vm.items() if key in SETTINGS} | found.vm.get("settings", {})
    cards = [(SETTING_OF[key], value) for card in found.vm.get("nics", []) for key, value in card.items()]
    promise(
        not [problem for key, value in (*given.items(), *cards) for problem in check_value(key, value)], "a value that is refused later"
    )
    wrong = disks.problems(found.vm.get("disks", []))
    promise(not wrong or found.in_the_way, "disks that are refused later")


def _domains() -> Iterator[tuple[str, bytes]]:
    for name in SEEDS:
        yield name, (DOMAINS / f"{name}.xml").read_bytes()


TARGETS = [Target("libvirt_domains", domains, (ConfigError,), _domains)]
