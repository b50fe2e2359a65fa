# SPDX-License-Identifier: GPL-3.0-or-later
"""`transport: rdma` and `plover_rdma_stack` on hosts that cannot do it: refused before anything is changed."""

from __future__ import annotations

import json
import sys

import pytest
from shared import traces
from test_deploy_refusals import refused, vm

from lab import deploy
from lab.hosts import HOSTS
from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "molecule" / "ofed"))
import standin

pytestmark = pytest.mark.usefixtures("untouched_hosts")
RDMA = {"settings": {"transport": "rdma", "rdma_trusted_network": True}}


@pytest.mark.parametrize(
    ("changes", "variables", "says"),
    [
        ({"settings": {"transport": "rmda"}}, {}, ["plover_vms[0].settings.transport: rmda is not one of tcp, rdma"]),
        (
            {},
            {"plover_rdma_stack": "ofed"},
            ["plover_rdma_stack of primary, secondary, witness: ofed is not one of none, distro, soft-roce, mlnx; choose one"],
        ),
        (
            RDMA,
            {},
            [
                "primary, secondary, witness: plover_rdma_stack: none, but the transport of demo is rdma and this host has "
                "no RDMA device; set it to distro, mlnx or soft-roce (role ofed), or settings.transport of demo to tcp"
            ],
        ),
        (
            RDMA,
            {"plover_rdma_stack": "soft-roce"},
            [
                "has no module rdma_rxe (Debian's cloud kernels lack it); install linux-image-amd64 and reboot, or set "
                "plover_rdma_stack: none and transport: tcp"
            ],
        ),
        (
            RDMA,
            {"plover_rdma_stack": "soft-roce", "plover_rdma_rxe_interface": "nosuch0"},
            ["plover_rdma_rxe_interface: there is no interface nosuch0; name one of this host's"],
        ),
        (
            RDMA,
            {"plover_rdma_stack": "distro"},
            [
                "plover_rdma_load_modules: this host is a container (systemd-nspawn), which cannot load ib_uverbs, rdma_ucm; load "
                "them on the machine it runs on"
            ],
        ),
        ({}, {"plover_rdma_stack": "mlnx"}, [f"plover_rdma_mlnx_{key}: is missing" for key in ("archive", "sha256", "version")]),
        (
            {},
            {"plover_rdma_stack": "mlnx", "plover_rdma_mlnx_archive": "/no/such.tgz"},
            ["plover_rdma_mlnx_archive: /no/such.tgz is not a file on this machine"],
        ),
    ],
)
def test_what_cannot_work_with_rdma_is_refused(changes, variables, says):
    said = refused("-e", vm(**changes), "-e", json.dumps(variables))
    assert [phrase for phrase in says if phrase not in said] == []


@pytest.mark.parametrize(
    ("archive", "changes", "says"),
    [
        ({}, {"plover_rdma_mlnx_sha256": "0" * 64}, ["plover_rdma_mlnx_sha256:", f"not {'0' * 64}; download it again"]),
        (
            {},
            {"plover_rdma_mlnx_version": "5.8-1.0.1.1"},
            ["plover_rdma_mlnx_version:", "holds MLNX_OFED_LINUX-24.10-1.1.4.0, not MLNX_OFED_LINUX-5.8-1.0.1.1; correct"],
        ),
        ({"system": "ubuntu22.04"}, {}, ["plover_rdma_mlnx_archive:", "is for ubuntu22.04, this host is debian12; download"]),
        ({"system": "debian1"}, {}, ["is for debian1, this host is debian12"]),
        ({}, {}, ["plover_rdma_mlnx_options: the running kernel", "has no headers", "or add --user-space-only"]),
    ],
)
def test_an_archive_that_is_not_the_right_one_is_refused(tmp_path, archive, changes, says):
    path, digest = standin.build(tmp_path, **archive)
    said = refused(
        "-e",
        json.dumps(
            {
                "plover_rdma_stack": "mlnx",
                "plover_rdma_mlnx_archive": str(path),
                "plover_rdma_mlnx_sha256": digest,
                "plover_rdma_mlnx_version": standin.VERSION,
                **changes,
            }
        ),
    )
    assert [phrase for phrase in says if phrase not in said] == []


@pytest.mark.parametrize("stack", ["distro", "mlnx"])
def test_check_mode_with_a_stack_ends_well_and_changes_nothing(tmp_path, stack):
    path, digest = standin.build(tmp_path)
    changed, said = deploy.play(
        "--tags",
        "ofed,native",
        "--check",
        "--diff",
        "-e",
        vm(**RDMA),
        "-e",
        json.dumps(
            {
                "plover_rdma_stack": stack,
                "plover_rdma_load_modules": False,
                "plover_rdma_mlnx_archive": str(path),
                "plover_rdma_mlnx_sha256": digest,
                "plover_rdma_mlnx_version": standin.VERSION,
                "plover_rdma_mlnx_options": ["--user-space-only"],
            }
        ),
    )
    assert changed > 0
    assert ("would install MLNX_OFED_LINUX-24.10-1.1.4.0" in said) == (stack == "mlnx")
    assert [traces(host) for host in HOSTS] == ["", "", ""]
