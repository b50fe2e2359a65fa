# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM's secret on real hosts: made, kept, changed while everything runs; who does not know it is shut out."""

from __future__ import annotations

import re
import time

import pytest
from tasks import daemons

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS

pytestmark = pytest.mark.usefixtures("deployed")
FILE = "/etc/plover/demo.secret"
PLAY = """- hosts: plover
  gather_facts: false
  any_errors_fatal: true
  roles: [plover.vmft.secrets]
"""


@pytest.fixture(scope="module")
def secrets(deployed, tmp_path_factory):
    """Runs role secrets alone; the whole play has run."""
    path = tmp_path_factory.mktemp("play") / "secrets.yml"
    path.write_text(PLAY)
    return lambda *options: deploy.play(*options, playbook=path)[0]


def lines() -> list[list[str]]:
    """Of each host's file, whose mode is looked at too."""
    said = [execute(host, f"stat -c %U:%a {FILE} && grep -v '^#' {FILE}").stdout.split() for host in HOSTS]
    assert [owner for owner, *_ in said] == ["root:600"] * 3
    return [found for _, *found in said]


def all_have_proved(seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while True:
        said = [deploy.ploverctl(host, "status")[1].get("authenticated") for host in HOSTS]
        if all(found is not None and len(found) == 2 and all(found.values()) for found in said):
            return
        assert time.monotonic() < end, said
        time.sleep(0.3)


def restart_one_by_one() -> None:
    for host in HOSTS:
        execute(host, "systemctl restart 'plover-witness@*' 'plover-replica@*'")
        deploy.wait_protected("secondary" if host == "primary" else "primary", 120)


def test_the_first_deployment_made_one_secret_for_all_three(secrets):
    first, *others = lines()
    assert len(first) == 1 and len(first[0]) == 64 and others == [first, first]
    all_have_proved()
    assert secrets() == 0


def test_it_is_changed_while_everything_runs(secrets):
    before, pids = lines(), daemons()
    assert secrets("-e", "secrets_rotate=true") == 9, "three rounds on three hosts"
    after = lines()
    assert after[0] != before[0] and len(after[0]) == 1 and after[1:] == [after[0]] * 2
    assert daemons() == pids
    execute("witness", "systemctl kill -s KILL plover-witness@demo")  # a new process, so new links
    all_have_proved()
    deploy.wait_protected("primary", 60)


def test_the_whole_play_can_be_told_to_do_one_role_alone(secrets):
    before = lines()
    changed, said = deploy.play("--tags", "secrets", "-e", "secrets_rotate=true")
    assert changed == 9 and lines() != before
    done = {task for task in re.findall(r"TASK \[plover\.vmft\.(.*?)\]", said) if "arg spec" not in task}
    assert "prechecks : Inspect the host" in done and "secrets : Write the secrets" in done
    assert {task.split(" :")[0] for task in done} == {"prechecks", "disks", "packages", "ofed", "secrets"}, "only looks and secrets"


def test_who_has_another_one_is_shut_out_and_the_play_mends_it(secrets):
    execute("witness", f"sed -i 's/^[^#].*/{'f' * 64}/' {FILE}; systemctl restart plover-witness@demo")
    time.sleep(1)
    assert deploy.ploverctl("witness", "status")[1]["authenticated"] == {}
    said = execute("witness", "journalctl -u plover-witness@demo").stdout
    assert "does not know this host's secret; run the deploy play" in said
    assert deploy.wait_protected("primary", 60)["authenticated"] == {"secondary": True}
    assert secrets() > 0
    all_have_proved()


def test_a_vm_from_before_there_were_secrets_is_opened_and_then_closed(secrets):
    for host in HOSTS:
        execute(host, f"rm {FILE}")
    restart_one_by_one()
    assert secrets() == 3
    assert [found[1:] for found in lines()] == [["open"]] * 3
    assert secrets() == 0, "it stays open while links are from before"
    restart_one_by_one()
    all_have_proved()
    assert secrets() == 3
    assert [len(found) for found in lines()] == [1, 1, 1]
    deploy.wait_protected("primary", 60)
