# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing of the exporter is left but its unit, which belongs to role runtime; the VM goes on."""

from __future__ import annotations


def test_nothing_is_left(host):
    assert not host.file("/etc/plover-exporter").exists and not host.user("plover-exporter").exists
    unit = host.service("plover-exporter")
    assert not unit.is_running and not unit.is_enabled


def test_the_vm_goes_on(host):
    assert host.run("ploverctl status").rc == 0
