# SPDX-License-Identifier: GPL-3.0-or-later
"""How a VM's CPUs are arranged: what is refused, and what QEMU is told."""

from __future__ import annotations

import pytest
from plover.config.settings import Config
from plover.errors import ConfigError
from plover.qemu.process import command_line
from settings import settings


def smp(**more):
    words = command_line(Config(settings("primary", **more)), incoming=False)
    return words[words.index("-smp") + 1]


def test_qemu_is_told_what_the_settings_say():
    assert smp() == "1" and smp(guest_vcpus=4) == "4"
    assert smp(guest_vcpus=8, guest_topology="1x4x2") == "8,sockets=1,cores=4,threads=2"


@pytest.mark.parametrize(
    "more, said",
    [
        ({"guest_vcpus": 4, "guest_topology": "1x2x1"}, "guest_topology: 1x2x1 is 2 CPUs, but guest_vcpus is 4; correct one of them"),
        ({"guest_topology": "2"}, "guest_topology: '2' is not valid (sockets x cores x threads of the CPUs, such as 1x4x2; empty"),
        ({"guest_topology": "0x1x1"}, "guest_topology: '0x1x1' is not valid"),
        ({"guest_topology": "1x1x1,maxcpus=8"}, "guest_topology: '1x1x1,maxcpus=8' is not valid"),
        ({"guest_topology": 4}, "guest_topology: must be of type str"),
    ],
)
def test_what_does_not_fit_is_refused(more, said):
    with pytest.raises(ConfigError) as error:
        Config(settings("primary", **more))
    assert str(error.value).startswith(said)
