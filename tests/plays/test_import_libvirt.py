# SPDX-License-Identifier: GPL-3.0-or-later
"""The play plover.vmft.import_libvirt, by ansible-playbook, with the collection as `make build` installs it."""

from __future__ import annotations

import json
import subprocess
import sys

import yaml

from lab import deploy
from lab.paths import ROOT

DOMAINS = ROOT / "tests" / "unit" / "libvirt" / "domains"


def play(folder, **variables):
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "plover.vmft.import_libvirt", "-e", json.dumps(variables)],
        cwd=folder,
        env={**deploy.environment(), "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_an_entry_is_shown_and_written_and_written_once(tmp_path):
    out = tmp_path / "fedora.yml"
    words = {
        "plover_libvirt_file": str(DOMAINS / "q35-default-network.xml"),
        "plover_entry_file": str(out),
        "plover_primary": "primary",
        "plover_secondary": "secondary",
        "plover_witness": "witness",
        "plover_libvirt_bridge": "br0",
        "plover_libvirt_machine": "pc",
    }
    done = play(tmp_path, **words)
    assert done.returncode == 0 and "changed=1" in done.stdout, done.stdout + done.stderr
    assert out.read_text() == (DOMAINS / "q35-as-pc.txt").read_text().partition("\n")[2]
    assert "- name: fedora-dev" in done.stdout
    assert "changed=0" in play(tmp_path, **words).stdout
    out.write_text("- name: mine\n")
    done = play(tmp_path, **words)
    assert done.returncode and "is there already, and differs" in done.stdout and yaml.safe_load(out.read_text()) == [{"name": "mine"}]


def test_what_stands_in_the_way_fails_the_play_after_the_entry_was_shown(tmp_path):
    done = play(tmp_path, plover_libvirt_file=str(DOMAINS / "virtiofs.xml"))
    assert done.returncode and "- name: build-agent" in done.stdout and "in the way of a VM that works as before:" in done.stdout
    assert "filesystem: shares a folder of one host" in done.stdout


def test_no_file_and_no_domain_are_refused(tmp_path):
    assert "plover_libvirt_file (missing) must be the path" in play(tmp_path).stdout
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><domain/>')
    assert "declares a document type (DOCTYPE)" in play(tmp_path, plover_libvirt_file=str(tmp_path / "a.xml")).stdout
