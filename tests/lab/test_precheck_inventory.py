# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of beginners' errors through the real play: refused with one line, before any host is reached."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import pytest
import yaml

from lab import deploy
from lab.paths import LAB, ROOT
from tests.prechecks import cases
from tests.prechecks.inventory import faulty, good
from tests.prechecks.play import refusals

# Whoever tries to reach a host fails at once, and with another message.
NO_WAY = {"ansible_ssh_common_args": "-o ProxyCommand=false"}
TIMEOUT_S = 500


class Played(NamedTuple):
    code: str
    output: str


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Title -> the finished play."""
    folder = tmp_path_factory.mktemp("inventories")
    LAB.mkdir(parents=True, exist_ok=True)
    inventories = {case.title: faulty(case) for case in cases.CASES}
    inventories.update({"good": good(), "no group": {"plovr": good()["plover"], "plover": {}}})
    files = {title: folder / f"{n}.yml" for n, title in enumerate(inventories)}
    for title, inventory in inventories.items():
        inventory["plover"].setdefault("vars", {}).update(NO_WAY)
        files[title].write_text(yaml.safe_dump(inventory, sort_keys=False))
    subprocess.run(
        [sys.executable, "-m", "tests.prechecks.many", "plover.vmft.precheck", str(folder)],
        check=True,
        cwd=ROOT,
        env=deploy.environment(),
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
    )
    return {title: Played(path.with_suffix(".rc").read_text(), path.with_suffix(".out").read_text()) for title, path in files.items()}


@pytest.mark.parametrize("case", cases.CASES, ids=cases.TITLES)
def test_one_error_is_refused_with_one_line_that_names_the_variable_and_the_remedy(results, case):
    done = results[case.title]
    (line,) = refusals(done.output)
    assert line.startswith(case.variable) and case.remedy in line and case.wrong in line
    assert done.code == "2" and "UNREACHABLE" not in done.output and "Inspect the host" not in done.output


def test_a_good_inventory_is_not_refused_before_the_hosts_are_reached(results):
    assert "TASK [plover.vmft.prechecks : Inspect the host" in results["good"].output
    hosts = [line.partition(": ansible_host: nothing is reached at ")[0] for line in refusals(results["good"].output)]
    assert hosts == ["primary", "secondary", "witness"]


def test_an_inventory_without_the_group_is_refused_though_no_play_has_a_host(results):
    (line,) = refusals(results["no group"].output)
    assert line.startswith("group plover: is missing or has no hosts; did you mean plovr?")
    assert results["no group"].code == "2"
