# SPDX-License-Identifier: GPL-3.0-or-later
"""The members' certificates on real hosts: links are encrypted, certificates are rotated and revoked while everything runs, a member
without its key is shut out, and a VM changes between links with and without TLS."""

from __future__ import annotations

import time

import pytest
import yaml
from tasks import daemons

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS
from lab.paths import LAB

pytestmark = pytest.mark.usefixtures("deployed")
FOLDER = "/etc/plover/demo/tls"


def run(name: str, **options: str) -> int:
    return deploy.play(*(word for key, value in options.items() for word in ("-e", f"{key}={value}")), playbook=f"plover.vmft.{name}")[0]


def serials() -> dict[str, str]:
    return {host: execute(host, f"openssl x509 -noout -serial -in {FOLDER}/cert.pem").stdout.strip() for host in HOSTS}


def wait_for(link_security: str, encrypted: bool, seconds: float = 60.0) -> None:
    """Until all members say so, each of its two links."""
    end = time.monotonic() + seconds
    while True:
        said = [deploy.ploverctl(host, "status")[1] for host in HOSTS]
        if all(one.get("link_security") == link_security and list(one["encrypted"].values()) == [encrypted] * 2 for one in said):
            return
        assert time.monotonic() < end, [(one.get("link_security"), one.get("encrypted"), one.get("tls")) for one in said]
        time.sleep(0.5)


def leaders() -> list[int]:
    return [deploy.ploverctl(host, "status")[1]["view"] for host in HOSTS]


@pytest.fixture
def changed_inventory():
    """Writes link_security of the VM into the inventory; the old inventory comes back at the end."""
    ours = deploy.INVENTORY.read_text()

    def change(link_security: str) -> None:
        inventory = yaml.safe_load(ours)
        inventory["plover"]["vars"]["plover_vms"][0]["link_security"] = link_security
        deploy.INVENTORY.write_text(yaml.safe_dump(inventory, sort_keys=False))

    yield change
    deploy.INVENTORY.write_text(ours)


def test_a_new_deployment_encrypts_all_links_and_keys_stay_where_they_are(deployed):
    wait_for("tls", True)
    assert len({execute(host, f"cat {FOLDER}/key.pem").stdout for host in HOSTS}) == 3
    assert sorted(path.name for path in (LAB / "ca").glob("*/*")) == ["ca.key", "ca.pem", "issued.json"]
    assert "PRIVATE" not in (LAB / "play.log").read_text()


@pytest.mark.parametrize("what", ["certificates", "ca", "secret,certificates,ca"])
def test_rotation_interrupts_nothing(deployed, what):
    before, pids, views = serials(), daemons(), leaders()
    assert run("rotate_secrets", plover_rotate=what) > 0
    after = serials()
    assert not set(before.values()) & set(after.values())
    assert (daemons(), leaders()) == (pids, views)
    wait_for("tls", True)
    assert deploy.play("--tags", "secrets")[0] == 0


def test_a_revoked_member_is_shut_out_and_comes_back_with_a_new_certificate(deployed):
    before = serials()
    execute("witness", f"cp -a {FOLDER} /root/stolen")
    run("rotate_secrets", plover_rotate="certificates", plover_host="witness")
    wait_for("tls", True)
    assert {host for host in HOSTS if serials()[host] != before[host]} == {"witness"}
    execute("witness", f"cp -a {FOLDER} /root/good && cp /root/stolen/*.pem {FOLDER}/ && systemctl restart plover-witness@demo")
    time.sleep(3)
    assert "witness" not in deploy.ploverctl("primary", "status")[1]["linked"]
    assert "is in /etc/plover/demo/tls/revoked" in execute("primary", "journalctl -u plover-replica@demo").stdout
    execute("witness", f"cp /root/good/*.pem {FOLDER}/; rm -r /root/good /root/stolen; systemctl restart plover-witness@demo")
    wait_for("tls", True)
    deploy.wait_protected("primary", 60)


def test_a_member_without_its_files_is_given_new_ones(deployed):
    before = serials()
    execute("witness", f"rm -r {FOLDER}; systemctl restart plover-witness@demo")
    deploy.play("--tags", "secrets,witness")
    execute("witness", "systemctl restart plover-witness@demo")
    wait_for("tls", True)
    after = serials()
    assert after["witness"] != before["witness"] and after["primary"] == before["primary"]
    deploy.wait_protected("primary", 60)


def test_to_links_without_tls_and_back(deployed, changed_inventory):
    for link_security, encrypted, left in (("none", False, ""), ("tls", True, "ca.pem cert.pem key.pem")):
        changed_inventory(link_security)
        deploy.play()
        run("rolling_restart")
        wait_for(link_security, encrypted)
        assert [execute(host, f"ls {FOLDER} 2>/dev/null | grep -v revoked | xargs").stdout.strip() for host in HOSTS] == [left] * 3
        assert deploy.play("--check")[0] == 0
    deploy.lead("primary", 60)
