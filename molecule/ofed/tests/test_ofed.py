# SPDX-License-Identifier: GPL-3.0-or-later
"""What role ofed leaves on a host, by its stack."""

from __future__ import annotations

import pytest

STACK = {"primary": "distro", "secondary": "mlnx", "witness": "none"}
MODULES = "/etc/modules-load.d/plover-rdma.conf"


@pytest.fixture
def stack(host) -> str:
    return STACK[host.check_output("hostname")]


def test_packages_and_modules_are_the_distribution_stacks_only(host, stack):
    assert host.package("rdma-core").is_installed == (stack == "distro")
    assert host.file(MODULES).exists == (stack == "distro")
    if stack == "distro":
        assert host.file(MODULES).content_string.split("\n")[2:] == ["ib_uverbs", "rdma_ucm", ""]
        assert host.run("python3 -c 'import pyverbs.device'").rc == 0
        assert host.exists("ib_write_bw") and host.exists("ibv_devinfo")


def test_mlnx_ofed_is_installed_once_without_touching_the_firmware(host, stack):
    assert host.file("/usr/bin/ofed_info").exists == (stack == "mlnx")
    if stack == "mlnx":
        calls = host.file("/var/log/standin-installed").content_string.splitlines()
        assert calls == ["--without-fw-update --force --user-space-only"]


def test_openibd_is_restarted_once_where_the_user_said_so(host, stack):
    assert not host.file("/run/plover-ofed-restart").exists
    if stack == "mlnx":
        assert host.file("/var/log/standin-openibd").content_string == "restart\n"


def test_nothing_is_left_of_the_archive(host):
    assert not host.file("/var/tmp/plover-mlnx-ofed").exists


def test_no_stack_but_soft_roce_makes_a_device(host):
    assert not host.file("/etc/systemd/system/plover-rxe.service").exists
