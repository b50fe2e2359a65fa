# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM's secret on real hosts: made, kept, changed while everything runs; who does not know it is shut out."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from pathlib import Path

import pytest
import yaml
from tasks import daemons

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS

pytestmark = pytest.mark.usefixtures("deployed")
FILE = "/etc/plover/demo.secret"
OWNER = {"primary": "root", "secondary": "root", "witness": "plover-witness"}
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
    assert [owner for owner, *_ in said] == [f"{OWNER[host]}:600" for host in HOSTS]
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


CANARIES = ("canary-of-the-members-0123456789abcdef", "canary-of-the-fence-agents-input")
# What Plover, Ansible and the daemons leave on a host, without the two files that are for secrets.
LEFT = (
    "journalctl --no-pager -o verbose; systemctl cat 'plover-*@demo'; systemctl show 'plover-*@demo'; ploverctl status -o json; "
    "ploverctl history -o json; grep -rhaF canary- /etc /run/plover /var/lib/plover /var/log /tmp /root /opt/plover "
    "--exclude=demo.secret --exclude=demo.fence --exclude-dir=journal 2>/dev/null"
)


@contextlib.contextmanager
def sampled_processes():
    """Command lines and environments of all processes meanwhile; the hosts are containers, so theirs are among them."""
    found, over = set(), threading.Event()

    def sample():
        while not over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/*"):
                if path.name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        found.add(path.read_bytes())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@pytest.fixture
def with_canaries(tmp_path):
    """Options that give the VM secrets that can be looked for."""
    vms = yaml.safe_load(deploy.INVENTORY.read_text())["plover"]["vars"]["plover_vms"]
    vms[0].update(secret=CANARIES[0], fence_input=f"username=admin\npasswd={CANARIES[1]}\n")
    path = tmp_path / "canaries.json"
    path.write_text(json.dumps({"plover_vms": vms}))
    return ["-e", f"@{path}", "-vvv", "--diff"]


@pytest.mark.parametrize(
    ("breaks", "mends", "says"),
    [
        ("mkdir /etc/plover/demo.fence", "rmdir /etc/plover/demo.fence", "Write the fence agents' input"),
        (
            "mv /var/lib/plover/images/demo /var/lib/plover/kept && touch /var/lib/plover/images/demo",
            "rm /var/lib/plover/images/demo && mv /var/lib/plover/kept /var/lib/plover/images/demo",
            "Create the image folders",
        ),
    ],
    ids=["in role secrets", "in role vm"],
)
def test_a_play_that_fails_shows_no_secret_nor_does_a_host(secrets, with_canaries, breaks, mends, says):
    assert execute("secondary", breaks).returncode == 0
    try:
        with sampled_processes() as processes:
            done = deploy.run_playbook(deploy.PLAY, deploy.INVENTORY, *with_canaries)
    finally:
        assert execute("secondary", mends).returncode == 0
    said = done.stdout + done.stderr
    assert done.returncode and says in said and "failed: [secondary]" in said
    for canary in CANARIES:
        assert canary not in said
        assert not any(canary.encode() in text for text in processes)
        for host in HOSTS:
            assert canary not in execute(host, LEFT).stdout, host
    assert len(processes) > 30 and "plover" in execute("primary", LEFT).stdout, "it looked at something"
    # The reason is still told.
    assert "directory" in said or "exists" in said


def test_the_files_for_secrets_are_roots_and_the_fence_agents_are_on_the_replicas(secrets, with_canaries):
    deploy.play(*with_canaries)
    assert [found[0] for found in lines()] == [CANARIES[0]] * 3
    said = [execute(host, "stat -c %U:%a /etc/plover/demo.fence && cat /etc/plover/demo.fence").stdout for host in HOSTS]
    wanted = f"root:600\nusername=admin\npasswd={CANARIES[1]}\n"
    assert dict(zip(HOSTS, said, strict=True)) == {"primary": wanted, "secondary": wanted, "witness": ""}
    deploy.play()
    assert [execute(host, "ls /etc/plover/demo.fence").returncode for host in HOSTS] == [2, 2, 2], "no longer in the inventory"
    deploy.wait_protected("primary", 60)


def test_without_its_secret_a_member_does_not_start_and_the_play_mends_it(secrets):
    execute("witness", f"rm {FILE}; systemctl restart plover-witness@demo")
    time.sleep(1)
    assert deploy.ploverctl("witness", "status")[0] != 0
    said = execute("witness", "journalctl -u plover-witness@demo").stdout
    assert f"secret_file: {FILE} is missing, and without a secret anybody could join; run the deploy play" in said
    assert secrets() == 1
    execute("witness", "systemctl reset-failed plover-witness@demo; systemctl restart plover-witness@demo")
    all_have_proved()


def test_a_vm_from_before_there_were_secrets_is_opened_and_then_closed(secrets):
    for host in HOSTS:
        execute(host, f"echo open >{FILE}")
    restart_one_by_one()
    assert secrets() == 3
    assert [found[1:] for found in lines()] == [["open"]] * 3
    assert secrets() == 0, "it stays open while links are from before"
    restart_one_by_one()
    all_have_proved()
    assert secrets() == 3
    assert [len(found) for found in lines()] == [1, 1, 1]
    deploy.wait_protected("primary", 60)
