# SPDX-License-Identifier: GPL-3.0-or-later
"""The play with `transport: rdma`, as far as hosts without RDMA can go: the trial before any member starts."""

from __future__ import annotations

import json
import os
import re

import pytest
from shared import traces
from test_deploy_refusals import refused, vm

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS

pytestmark = pytest.mark.usefixtures("fresh_hosts")
RDMA = {"settings": {"transport": "rdma", "rdma_trusted_network": True, "rdma_ring_mib": 16}}
STACK = {"plover_rdma_stack": "distro", "plover_rdma_load_modules": False}
NATIVE = ["libplover_native.so", "libplover_preload.so", "libplover_rdma.so", "plover-hash"]
PROBLEM = "PROBLEM: transport: rdma, but this host has no RDMA device"
STARTED = "ls /etc/plover/*.json; systemctl is-active 'plover-*@*'"
NO_HEADERS = """#!/bin/sh
[ "$1" != -E ] || exit 1
exec /usr/bin/gcc "$@"
"""


def native_files(host: str) -> list[str]:
    return execute(host, "ls /opt/plover/current/native").stdout.split()


def test_a_control_machine_without_the_headers_is_told_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "gcc").write_text(NO_HEADERS)
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = refused("-e", vm(**RDMA), "-e", json.dumps({**STACK, "native_build_dir": str(tmp_path / "native")}))
    assert "transport: rdma needs libplover_rdma.so" in said and "install libibverbs-dev here" in said
    assert [traces(host) for host in HOSTS] == ["", "", ""]


def test_rdma_is_tried_on_all_hosts_before_any_member_starts():
    with pytest.raises(SystemExit) as error:
        deploy.play("-e", vm(**RDMA), "-e", json.dumps(STACK))
    said = re.sub(r"\s+", " ", str(error.value))
    assert said.count(f"demo: {PROBLEM}; role 'ofed' makes one") == len(HOSTS)
    assert [native_files(host) for host in HOSTS] == [NATIVE, NATIVE, ["libplover_rdma.so"]]
    assert [execute(host, STARTED).stdout for host in HOSTS] == ["", "", ""]


def test_check_mode_tells_it_too_once_the_runtime_is_there():
    with pytest.raises(SystemExit, match=PROBLEM):
        deploy.play("--check", "-e", vm(**RDMA), "-e", json.dumps(STACK))


def test_the_same_hosts_go_on_with_tcp():
    deploy.play("-e", vm(), "-e", json.dumps(STACK))
    deploy.wait_protected("primary", 120)
    changed, _ = deploy.play("--tags", "ofed,native,runtime,vm", "-e", vm(), "-e", json.dumps(STACK))
    assert changed == 0
