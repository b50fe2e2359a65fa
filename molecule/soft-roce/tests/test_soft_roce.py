# SPDX-License-Identifier: GPL-3.0-or-later
"""After a reboot: the device is there, on the right interface, and works."""

from __future__ import annotations

import json


def test_the_device_is_back_on_the_replication_interface(host):
    links = json.loads(host.check_output("rdma -j link show"))
    assert [(link["ifname"], link["state"], link["netdev"]) for link in links] == [("rxe0", "ACTIVE", "eth0")]


def test_it_was_made_by_its_unit_at_this_boot(host):
    unit = host.service("plover-rxe")
    assert unit.is_enabled and unit.is_running
    assert "rdma_rxe" in host.file("/proc/modules").content_string


def test_the_modules_are_loaded_at_each_boot(host):
    wanted = host.file("/etc/modules-load.d/plover-rdma.conf").content_string.split("\n")
    loaded = {line.split()[0] for line in host.file("/proc/modules").content_string.splitlines()}
    assert {line for line in wanted if line and not line.startswith("#")} <= loaded


def test_verbs_work_from_python_too(host):
    devices = host.check_output("python3 -c 'import pyverbs.device as d; print([x.name for x in d.get_device_list()])'")
    assert devices == "[b'rxe0']"
    assert "PORT_ACTIVE" in host.check_output("ibv_devinfo -d rxe0")
