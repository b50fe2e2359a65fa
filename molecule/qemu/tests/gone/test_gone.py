# SPDX-License-Identifier: GPL-3.0-or-later
"""After an uninstall nothing of the roles is left; the packages that apt installed stay."""

from __future__ import annotations


def test_no_file_is_left(host):
    found = host.run("find / -xdev \\( -name '*plover*' -o -name 'qemu-if*' \\) -not -path '/proc/*' -not -path '/sys/*'")
    assert found.stdout.split() == []


def test_no_unit_user_or_source_is_left(host):
    assert host.run("systemctl list-unit-files 'plover*' --no-legend").stdout == ""
    assert not host.user("plover-qemu").exists and not host.group("plover-qemu").exists
    assert "plover" not in host.check_output("apt-cache policy")


def test_there_is_no_bridge_and_the_packages_stay(host):
    assert host.run("ip -j link show type bridge").stdout.strip() in ("[]", "[{}]")
    witness = host.check_output("hostname") == "witness"
    assert host.package("rdma-core" if witness else "qemu-system-x86").is_installed


def test_the_overlays_are_gone_and_the_images_stay(host):
    assert not host.file("/run/plover-disks").exists
    if host.check_output("hostname") != "witness":
        assert host.file("/var/lib/lab-images/demo.img").size == 8 << 20
