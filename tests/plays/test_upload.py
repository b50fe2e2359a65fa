# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of a large image shows how far it is, with the default output. Ansible and the action plugin are real; only the way to
the host is the machine's own file system, made as slow as a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml

from lab.deploy import COLLECTIONS

MIB, SECONDS, EVERY_S = 24, 12, 5
SLOW = f'''
from __future__ import annotations
import time
from ansible.plugins.connection.local import Connection as Local
DOCUMENTATION = """
name: slow
short_description: A slow way to this machine
description: For a test.
options:
  pipelining: {{description: Of all connections., type: bool, default: false, vars: [{{name: ansible_pipelining}}]}}
"""
class Connection(Local):
    transport = "slow"
    def put_file(self, in_path, out_path):
        with open(in_path, "rb") as source, open(out_path, "wb", buffering=0) as target:
            while data := source.read(1 << 20):
                target.write(data)
                time.sleep({SECONDS / MIB} if len(data) == 1 << 20 else 0)
'''


@pytest.fixture
def copied(tmp_path):
    """What the play says as it copies an image of that size in that folder."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow.py").write_text(SLOW)
    (tmp_path / "hosts").write_text("alpha\n")

    def run(size):
        (tmp_path / "a.img").write_bytes(os.urandom(size))
        arguments = {"src": str(tmp_path / "a.img"), "dest": str(tmp_path / "b.img"), "mode": "0600", "force": False}
        tasks = [{"name": "Copy", "plover.vmft.plover_image": arguments}]
        play = [{"hosts": "all", "gather_facts": False, "connection": "slow", "tasks": tasks}]
        (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CONNECTION_PLUGINS": str(tmp_path / "plugins"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts", "play.yml"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_slow_copy_shows_how_far_it_is(copied, tmp_path):
    said = copied(MIB << 20)
    shown = re.findall(r"^  alpha +([\d.]+) s  b.img: (\d+) of 24 MiB, (\d+) MiB/s, (\d+) s left$", said, re.M)
    assert len(shown) >= 2, said
    for at_s, done, _rate, left_s in shown:
        assert 0 < int(done) < MIB and abs(float(at_s) + int(left_s) - SECONDS) < SECONDS, shown
    assert [int(done) for _at, done, _rate, _left in shown] == sorted(int(done) for _at, done, _rate, _left in shown)
    assert re.search(r"^  alpha .* b.img: has arrived", said, re.M)
    assert (tmp_path / "b.img").read_bytes() == (tmp_path / "a.img").read_bytes()
    assert (tmp_path / "b.img").stat().st_mode & 0o777 == 0o600


def test_a_quick_copy_shows_nothing(copied, tmp_path):
    assert "MiB" not in copied(1000) and (tmp_path / "b.img").stat().st_size == 1000


def test_an_image_that_is_there_is_kept(copied, tmp_path):
    (tmp_path / "b.img").write_bytes(b"newer")
    assert "changed=0" in copied(MIB << 20) and (tmp_path / "b.img").read_bytes() == b"newer"
