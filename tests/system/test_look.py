# SPDX-License-Identifier: GPL-3.0-or-later
"""The prechecks' look at a host, on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible.host import block_drivers, colo_loop, kvm, look, network
from plover.host import kernel_tracking


def test_this_machine_is_seen_as_it_is(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        found = look.facts([str(tmp_path), str(tmp_path / "not" / "there")])
        assert found["listening"][port]["pid"] == os.getpid()
    assert (found["uid"], found["hostname"]) == (os.geteuid(), socket.gethostname())
    assert found["memory_mib"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    assert "127.0.0.1" in found["interfaces"]["lo"]["addresses"]
    assert [entry["exists"] for entry in found["paths"].values()] == [True, False]
    assert len({entry["device"] for entry in found["paths"].values()}) == 1


def test_dirty_tracking_is_found_where_the_native_library_uses_it():
    """The native tests run uffd-wp itself on this machine."""
    assert kernel_tracking.uffd_wp() == ""
    assert kernel_tracking.choose(Path("/dev/shm")) == ("uffd-wp", "")


@pytest.mark.parametrize(
    "uffd_wp, soft_dirty, huge, wanted",
    [
        ("no", "", "", ("soft-dirty", "uffd-wp does not work: no")),
        ("no", "never", "", ("scan", "uffd-wp does not work: no; soft-dirty does not work: never")),
        ("no", "", "huge pages", ("scan", "uffd-wp does not work: no; soft-dirty does not work: huge pages")),
        ("", "never", "huge pages", ("uffd-wp", "")),
    ],
)
def test_the_fastest_way_that_works_is_chosen(uffd_wp, soft_dirty, huge, wanted, monkeypatch):
    monkeypatch.setattr(kernel_tracking, "uffd_wp", lambda: uffd_wp)
    monkeypatch.setattr(kernel_tracking, "soft_dirty", lambda: soft_dirty)
    monkeypatch.setattr(kernel_tracking.huge_pages, "why_possible", lambda path: huge)
    assert kernel_tracking.choose(Path("/dev/shm")) == wanted


def test_a_device_that_is_no_kvm_is_no_kvm():
    assert "Inappropriate ioctl" in kvm.why_not("/dev/null")
    assert "No such file" in kvm.why_not("/dev/no-kvm")
    assert all(word not in kvm.why_not() for word in ("does not end", "without a word"))


def test_a_missing_tool_is_no_error():
    assert network.tool("/no/such/tool") == ""
    assert look.qemu("/no/such/qemu")["version"] == ""
    assert colo_loop.dialect("/no/such/qemu") == colo_loop.UNKNOWN


def test_the_installed_qemu_is_asked_for_its_colo_loop():
    assert look.qemu("/usr/bin/qemu-system-x86_64")["colo_loop"] == colo_loop.ENABLED


@pytest.mark.parametrize(
    "answer, wanted",
    [
        ('{"id": "colo", "return": {}}', colo_loop.ENABLED),
        ('{"id": "colo", "error": {"desc": "Capability \'x-colo\' requires capability \'return-path\'"}}', colo_loop.RETURN_PATH),
        ('{"id": "colo", "error": {"desc": "COLO is not currently supported, please rerun configure"}}', colo_loop.NONE),
        ('{"return": {}}', colo_loop.UNKNOWN),
        ("[" * 9999, colo_loop.UNKNOWN),
        ("", colo_loop.UNKNOWN),
    ],
)
def test_a_qemus_answer_tells_its_dialect(tmp_path, answer, wanted):
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/bin/sh\ncat >/dev/null\ncat <<'END'\n{{}}\n{answer}\nEND\n")
    qemu.chmod(0o755)
    assert colo_loop.dialect(str(qemu)) == wanted


def test_the_installed_qemu_makes_the_nodes_of_replicated_disks():
    assert look.qemu("/usr/bin/qemu-system-x86_64")["block_drivers"] == ["quorum", "replication"]
    assert block_drivers.usable("/no/such/qemu") is None


def test_a_block_driver_that_is_in_qemu_and_may_not_be_used_counts_as_missing(tmp_path):
    qemu = tmp_path / "qemu"
    refused = '{"id": "quorum", "error": {"class": "GenericError", "desc": "Driver \'quorum\' is not whitelisted"}}'
    qemu.write_text(f'#!/bin/sh\ncat <<\'END\'\n{refused}\n{{"id": "replication", "return": {{}}}}\n{"[" * 9999}\nEND\n')
    qemu.chmod(0o755)
    assert block_drivers.usable(str(qemu)) == ["replication"]
