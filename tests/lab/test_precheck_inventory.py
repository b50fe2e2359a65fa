# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of beginners' errors through the real play: refused with one line, before any host is reached."""
from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from lab import deploy
from lab.paths import LAB
from tests.prechecks import cases
from tests.prechecks.play import refusals

# Whoever tries to reach a host fails at once, and with another message.
NO_WAY = {"ansible_ssh_common_args": "-o ProxyCommand=false"}


def precheck(folder, number, inventory):
    path = folder / f"{number}.yml"
    inventory["plover"].setdefault("vars", {}).update(NO_WAY)
    path.write_text(yaml.safe_dump(inventory, sort_keys=False))
    return deploy.run_playbook("plover.vmft.precheck", path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Title -> the finished play; as many at a time as there are cores."""
    folder = tmp_path_factory.mktemp("inventories")
    LAB.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {case.title: pool.submit(precheck, folder, n, cases.faulty(case)) for n, case in enumerate(cases.CASES)}
        jobs["good"] = pool.submit(precheck, folder, "good", cases.good())
        jobs["no group"] = pool.submit(precheck, folder, "none", {"plovr": cases.good()["plover"], "plover": {}})
    return {title: job.result() for title, job in jobs.items()}


@pytest.mark.parametrize("case", cases.CASES, ids=cases.TITLES)
def test_one_error_is_refused_with_one_line_that_names_the_variable_and_the_remedy(results, case):
    done = results[case.title]
    (line,) = refusals(done.stdout)
    assert line.startswith(case.variable) and case.remedy in line and case.wrong in line
    assert done.returncode != 0 and "UNREACHABLE" not in done.stdout and "Look at the host" not in done.stdout


def test_a_good_inventory_is_not_refused_before_the_hosts_are_reached(results):
    assert "TASK [plover.vmft.prechecks : Look at the host" in results["good"].stdout


def test_an_inventory_without_the_group_is_refused_though_no_play_has_a_host(results):
    (line,) = refusals(results["no group"].stdout)
    assert line.startswith("group plover: is missing or has no hosts; did you mean plovr?")
    assert results["no group"].returncode != 0
