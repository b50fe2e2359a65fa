# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/getting-started.md is true: its files are written and its commands run, in their order, as a beginner does.

It uses the built tarball, with only the folders that an installed collection may use, no network, and the newest
ansible-core that a Python of this machine allows.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lab import debian_guest, deploy
from lab.__main__ import execute
from lab.hosts import CLIENT, HOSTS, SERVICE_IP
from lab.paths import LAB, ROOT

sys.path.insert(0, str(ROOT / "tools"))
import pythons

PAGE = ROOT / "docs" / "getting-started.md"
BLOCK = re.compile(r"^```(sh|yaml)([^\n]*)\n(.*?)^```$", re.M | re.S)
KEPT = {"meta", "plugins", "roles", "playbooks"}
NEWEST = ROOT / "requirements" / "newest.txt"
OLDEST_PYTHON_OF_NEWEST = 12
TIMEOUT_S, BOOT_S = 600, 600


def blocks() -> list[tuple[str, str, str]]:
    """(language, rest of the info line, text) of the page's fenced blocks that a beginner saves or types."""
    return [(kind, info.strip(), text) for kind, info, text in BLOCK.findall(PAGE.read_text())]


def newest_ansible() -> Path:
    """bin/ of an environment with the newest ansible-core; of our own where no Python here can run that one."""
    python = pythons.newest(OLDEST_PYTHON_OF_NEWEST)
    if python is None:
        print(f"no Python 3.{OLDEST_PYTHON_OF_NEWEST} or newer here: the newest ansible-core is NOT tested, but our own")
        return Path(sys.executable).parent
    venv = ROOT / ".cache" / "venv-newest"
    stamp = venv / f"made-{hashlib.sha256(NEWEST.read_bytes() + str(python).encode()).hexdigest()[:12]}"
    if not stamp.exists():
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([python, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", NEWEST], check=True)
        stamp.touch()
    return venv / "bin"


class Beginner:
    """A folder, a home and a PATH of their own, and the way to the lab's hosts."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.home = folder / "work", folder / "home"
        self.key = self.home / ".ssh/id_ed25519"
        self.collection = self.home / ".ansible/collections/ansible_collections/plover/vmft"
        for each in (self.folder, self.home):
            each.mkdir()
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{binaries}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            # What this machine's network is like: the lab's own SSH settings, and no way out.
            "ANSIBLE_SSH_COMMON_ARGS": f"-F {LAB / 'ssh_config'}",
            "ANSIBLE_HOST_KEY_CHECKING": "false",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(LAB / "cp-beginner"),
            "PIP_NO_INDEX": "1",
            "ANSIBLE_GALAXY_SERVER": "http://127.0.0.1:9/",
            "ANSIBLE_NOCOLOR": "1",
        }

    def types(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}{done.stderr[-3000:]}"
        out = done.stdout + done.stderr
        assert "DEPRECATION WARNING" not in out, out  # this ansible-core's next release would not take it
        return out


@pytest.fixture
def beginner(fresh_hosts, tmp_path):
    out = Beginner(tmp_path, newest_ansible())
    shutil.copy(debian_guest.build(), out.folder / "debian-12-generic-amd64.raw")
    (out.home / ".ssh").mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(out.key)], check=True)
    shutil.copytree(deploy.LAB / "wheels", out.folder / "wheels")
    (tarball,) = (ROOT / "build").glob("plover-vmft-*.tar.gz")
    shutil.copy(tarball, out.folder)
    return out


def strip(collection: Path) -> None:
    """Everything but what an installed collection may use."""
    assert {p.name for p in collection.iterdir()} > KEPT
    for path in collection.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def changed(said: str) -> list[int]:
    return [int(n) for n in re.findall(r"changed=(\d+)", said.rsplit("PLAY RECAP", 1)[1])]


def traces(host: str) -> str:
    return execute(host, "ls -d /opt/plover /etc/plover /var/lib/plover /run/plover 2>/dev/null").stdout


def leader() -> list[str]:
    return [host for host in ("primary", "secondary") if deploy.ploverctl(host, "status")[1].get("role") == "leader"]


def logs_in(key: Path) -> str:
    """The guest's host name, as its user sees it over SSH once it has booted."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=10"]
    words = ["ssh", "-i", str(key), *(word for option in options for word in ("-o", option)), f"debian@{SERVICE_IP}", "hostname"]
    end = time.monotonic() + BOOT_S
    while (done := subprocess.run(["ip", "netns", "exec", CLIENT, *words], capture_output=True, text=True, check=False)).returncode:
        assert time.monotonic() < end, done.stderr
        time.sleep(2.0)
    return done.stdout.strip()


def test_the_page_is_true(beginner, capsys):
    version = beginner.types("ansible --version").splitlines()[0]
    with capsys.disabled():
        print(f"\ngetting-started with {version}")
    typed = []
    for kind, info, text in blocks():
        if kind == "yaml":
            path = beginner.folder / info
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            continue
        said = beginner.types(text)
        typed.append(text)
        if "collection install" in text:
            strip(beginner.collection)
        elif "precheck" in text or "--check" in text:
            assert {host: traces(host) for host in HOSTS} == dict.fromkeys(HOSTS, "")
        elif info == "again":
            assert set(changed(said)) == {0}
        elif "deploy_plover" in text:
            assert min(sorted(changed(said))[-len(HOSTS) :]) > 0  # the control machine may have a line, too
            assert logs_in(beginner.key) == "demo"
        elif "plover_away_from=primary" in text:
            assert leader() == ["secondary"]
        elif "switchover" in text:
            assert leader() == ["primary"]
        elif "reset" in text:
            assert {host: traces(host) for host in HOSTS} == dict.fromkeys(HOSTS, "")
    assert len(typed) == 9 and "reset" in typed[-1]
    assert {p.name for p in beginner.collection.iterdir()} == KEPT


def test_its_inventory_is_the_example():
    """Two texts that must stay equal: a change of one alone fails here."""
    page = yaml.safe_load(next(text for kind, info, text in blocks() if info == "inventory.yml"))["plover"]
    example = yaml.safe_load((ROOT / "playbooks" / "inventory.example.yml").read_text())["plover"]
    assert page["children"] == example["children"]
    vms = [group["vars"].pop("plover_vms")[0] for group in (page, example)]
    boots = {"kernel", "initrd", "cmdline"}, {"disks", "cloud_init", "settings"}
    assert {k for k in vms[0] if vms[0][k] != vms[1].get(k)} == {"memory_mib", *boots[1]}
    assert set(vms[1]) - boots[0] == set(vms[0]) - boots[1] | {"vcpus"}
    assert set(page["vars"]) - set(example["vars"]) == {"ansible_python_interpreter"}
