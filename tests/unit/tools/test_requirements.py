# SPDX-License-Identifier: GPL-3.0-or-later
"""Each Python package that we install is pinned with its hashes, and pip is told to take nothing else."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import lock_requirements  # noqa: E402

NAMES = lock_requirements.names()


def locked(name):
    return (ROOT / "requirements" / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_is_of_its_source_and_each_package_has_hashes(name):
    text = locked(name)
    assert text == lock_requirements.HEADER.format(name=name, sums=lock_requirements.sums(name)) + text.split("\n", 2)[2], (
        f"requirements/{name}.in has changed; run 'make requirements'"
    )
    asked = lock_requirements.pins((ROOT / "requirements" / f"{name}.in").read_text())
    assert asked and asked.items() <= lock_requirements.pins(text).items()
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith(("#", "--hash=sha256:"))]
    assert len(lines) == len(lock_requirements.pins(text)) and all(line.endswith(" \\") for line in lines)


def test_the_wheels_of_the_hosts_are_the_locked_ones():
    role = yaml.safe_load((ROOT / "roles" / "runtime" / "vars" / "main.yml").read_text())
    wheels = {lock_requirements.normal(name): version for name, version in (w["requirement"].split("==") for w in role["runtime_wheels"])}
    assert lock_requirements.pins(locked("target-python")) == wheels and len(wheels) == 2
    for wheel in role["runtime_wheels"]:
        name, version = wheel["requirement"].split("==")
        assert f"--hash=sha256:{wheel['sha256']}" in locked("target-python")
        assert wheel["file"] == f"{name.replace('.', '_').replace('-', '_')}-{version}-py3-none-any.whl"


def test_pip_takes_nothing_without_a_hash():
    """tools/get_pip.py is not among them: ansible-test itself decides what it installs."""
    makefile = (ROOT / "Makefile").read_text()
    assert "--require-hashes" in re.search(r"^PIP_INSTALL = pip .*install.*", makefile, re.MULTILINE)[0]
    assert re.findall(r".*pip .*install.*", makefile) == re.findall(r"^PIP_INSTALL = .*", makefile, re.MULTILINE)
    for name in ("lab/base.py", "roles/runtime/tasks/wheel.yml", "tests/lab/test_getting_started.py"):
        assert "--require-hashes" in (ROOT / name).read_text()
