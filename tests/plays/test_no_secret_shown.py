# SPDX-License-Identifier: GPL-3.0-or-later
"""No play prints a secret, whatever fails and however much is asked for: ansible-playbook runs each of them with -vvv --diff.

The plays, roles and action plugins are the real ones. The hosts' Python is a stand-in: each module of one run fails, each of the
other succeeds with a change; so every task shows its items and its diff, and no host is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from tools.build_collection import ROOT, packed

SECRETS = {
    "secret": "canary-of-the-members-0123456789abcdef",
    "fence_input": "canary-of-the-fence-agents-input",
    "user_data": "canary-of-the-password-of-the-guest",
    "network_config": "canary-of-the-wifi-password",
    "fence_command": "canary-of-a-fence-agents-argument",
}
HOSTS = ("alpha", "beta", "gamma")
PLAYS = (
    "deploy-plover",
    "add_vm",
    "rotate_secrets",
    "backup_config",
    "upgrade",
    "rolling_restart",
    "restart_vm",
    "upgrade_qemu",
    "switchover",
    "status",
    "remove_vm",
    "reset",
)
RESULTS = {
    "fails": {"failed": True, "msg": "made to fail", "rc": 7},
    "succeeds": {
        "changed": True,
        "rc": 0,
        "stdout": "",
        "stderr": "",
        "stat": {"exists": False},
        "pending": False,
        "images": {},
        "host": {},
        "vms": {},
        "free_mib": 0,
        "overlay_used_mib": 0,
    },
}


def inventory(python, folder):
    vm = {
        "name": "canary",
        "primary": "alpha",
        "secondary": "beta",
        "witness": "gamma",
        "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "mac": "52:54:00:70:6c:01",
        "kernel": str(folder / "vmlinuz"),
        "secret": SECRETS["secret"],
        "fence_input": f"username=admin\npasswd={SECRETS['fence_input']}\n",
        "settings": {
            "transport": "rdma",
            "fence_policy": "required",
            "fence_command": ["/usr/sbin/fence_x", "--password", SECRETS["fence_command"], "-n", "{host}"],
        },
        "disks": [{"path": "/nowhere/a.img", "size_mib": 8}],
        "cloud_init": {
            "user_data": {"chpasswd": {"list": [f"root:{SECRETS['user_data']}"]}},
            "network_config": f"wifis: {{w: {{password: {SECRETS['network_config']}}}}}",
        },
    }
    addresses = {host: {"plover_replication_address": f"192.0.2.{n}"} for n, host in enumerate(HOSTS, 1)}
    return {
        "all": {
            "hosts": {"localhost": {}},
            "vars": {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(python),
                "ansible_remote_tmp": str(folder / "remote"),
            },
            "children": {
                "plover": {
                    "children": {
                        "plover_replicas": {"hosts": {host: addresses[host] for host in HOSTS[:2]}},
                        "plover_witnesses": {"hosts": {host: addresses[host] for host in HOSTS[2:]}},
                    },
                    "vars": {"plover_vms": [vm], "plover_wheel_dir": str(folder), "native_build_dir": str(folder)},
                }
            },
        }
    }


def goes_on(play):
    """The play so that each of its tasks is tried, whatever failed before."""
    return {**play, "ignore_errors": True, "any_errors_fatal": False} if "hosts" in play else play


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("plays")
    collection = out / "ansible_collections" / "plover" / "vmft"
    for part in ("meta", "plugins", "roles", "playbooks"):
        shutil.copytree(ROOT / part, collection / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "galaxy.yml", collection)
    for name, data in packed().items():
        (collection / name).parent.mkdir(parents=True, exist_ok=True)
        (collection / name).write_bytes(data)
    for path in (collection / "playbooks").glob("*.yml"):
        if "inventory" not in path.name:
            path.write_text(yaml.safe_dump([goes_on(play) for play in yaml.safe_load(path.read_text())]))
    books = [{"ansible.builtin.import_playbook": str(collection / "playbooks" / f"{name}.yml")} for name in PLAYS]
    (out / "all.yml").write_text(yaml.safe_dump(books))
    (out / "vmlinuz").write_bytes(b"kernel")
    return out


@pytest.mark.parametrize("modules", RESULTS)
def test_no_play_shows_a_secret(folder, modules):
    python = folder / f"python-{modules}"
    python.write_text(f"#!/bin/sh\necho \"$0 $*\" >>{folder}/argv\ncat <<'END'\n{json.dumps(RESULTS[modules])}\nEND\n")
    python.chmod(0o755)
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory(python, folder)))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "all.yml", "-vvv", "--diff"]
        + ["-e", json.dumps({"plover_vm_name": "canary", "plover_confirm": "canary", "plover_backup_file": str(folder / "backup.yml")})],
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(folder),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "false",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = done.stdout + done.stderr
    (folder / f"{modules}.log").write_text(said)
    assert "PLAY RECAP" in said, said[-3000:]
    shown = {name: [line[:300] for line in said.splitlines() if text in line][:3] for name, text in SECRETS.items()}
    assert shown == {name: [] for name in SECRETS}
    assert not any(text in (folder / "argv").read_text() for text in SECRETS.values())
    for task in (
        "Write the secrets",
        "Make the cloud-init seeds",
        "Write the settings",
        "Remove this host's replicas, their settings and their state",
    ):
        assert task in said
