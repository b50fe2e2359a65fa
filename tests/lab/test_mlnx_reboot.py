# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ofed after an installation of MLNX_OFED (a stand-in): a host reboots only if told to, and if no member runs there."""

from __future__ import annotations

import sys

import pytest
import yaml

from lab import deploy
from lab.__main__ import execute
from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "molecule" / "ofed"))
import standin

pytestmark = pytest.mark.usefixtures("fresh_hosts")
BOOTED = "stat -c %Y /proc/1"


@pytest.fixture
def play(tmp_path, monkeypatch):
    archive, digest = standin.build(tmp_path)
    variables = {
        "plover_rdma_stack": "mlnx",
        "plover_rdma_mlnx_archive": str(archive),
        "plover_rdma_mlnx_sha256": digest,
        "plover_rdma_mlnx_version": standin.VERSION,
        "plover_rdma_mlnx_options": ["--user-space-only"],
        "plover_rdma_reboot": True,
    }
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{"hosts": "witness", "gather_facts": False, "vars": variables, "roles": ["plover.vmft.ofed"]}])
    )
    monkeypatch.setattr(deploy, "PLAY", tmp_path / "play.yml")
    return deploy.play


def test_a_host_on_which_a_member_runs_is_not_rebooted(play):
    assert execute("witness", "systemd-run --unit plover-witness@demo sleep 300").returncode == 0
    began = execute("witness", BOOTED).stdout
    _, said = play()
    said = " ".join(said.split())
    assert "Members run here (plover-witness@demo.service): stop them" in said
    assert execute("witness", BOOTED).stdout == began


def test_without_a_member_it_is_rebooted_once(play):
    execute("witness", "systemctl stop plover-witness@demo")
    began = execute("witness", BOOTED).stdout
    changed, _ = play()
    assert changed == 1 and execute("witness", BOOTED).stdout != began
    assert execute("witness", "ofed_info -s").stdout == f"MLNX_OFED_LINUX-{standin.VERSION}:\n"
    changed, said = play()
    assert changed == 0 and "left to do" in said and "but the old modules are still loaded" not in said
