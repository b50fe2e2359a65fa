# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of hosts that cannot do their part, on real hosts: refused with one line each, and nothing is changed there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS
from lab.paths import LAB
from tests.prechecks import host_cases
from tests.prechecks.play import refusals

pytestmark = pytest.mark.usefixtures("untouched_hosts")
# Every file of the host with size and time, but what the system itself writes at any time.
FILES = (
    "find / -xdev '(' -path /proc -o -path /sys -o -path /run -o -path /var/log -o -path /var/lib/systemd "
    "-o -path /tmp ')' -prune -o -printf '%p %s %T@\\n' | sort; ls /run | grep -v listener; "
    "ls -A /opt /tmp /root/.ansible 2>/dev/null"
)


def precheck(tmp_path, change):
    inventory = yaml.safe_load(deploy.INVENTORY.read_text())
    image = tmp_path / "image"
    image.write_bytes(b"x" * (3 << 20))
    change(inventory)
    path = LAB / "case.yml"
    path.write_text(yaml.safe_dump(inventory, sort_keys=False).replace("{image}", str(image)))
    return deploy.run_playbook("plover.vmft.precheck", path)


def files_of_all():
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        out = dict(zip(HOSTS, (done.stdout for done in pool.map(lambda host: execute(host, FILES), HOSTS)), strict=True))
    assert all(len(text) > 100_000 for text in out.values())
    return out


def done_on(commands):
    for host, command in commands.items():
        done = execute(host, command)
        assert done.returncode == 0, f"{host}: {command}: {done.stderr}"


@pytest.mark.parametrize("case", host_cases.CASES, ids=host_cases.TITLES)
def test_one_error_is_refused_with_one_line_and_nothing_is_changed(tmp_path, case):
    try:
        done_on(case.before)
        files = files_of_all()
        done = precheck(tmp_path, case.change)
        assert files_of_all() == files
    finally:
        done_on(case.after)
    (line,) = refusals(done.stdout)
    assert line.startswith(case.starts) and case.remedy in line
    assert done.returncode != 0 and "changed=0" in done.stdout and "changed=1" not in done.stdout


def test_all_errors_of_all_hosts_are_listed_at_once(tmp_path):
    apart = [
        case
        for case in host_cases.CASES
        if case.title
        in ("a wrong interface", "another host's replication address", "different MTUs", "more memory than there is", "a full disk")
    ]
    try:
        for case in apart:
            done_on(case.before)
        done = precheck(tmp_path, lambda inventory: [case.change(inventory) for case in apart])
    finally:
        for case in apart:
            done_on(case.after)
    lines = refusals(done.stdout)
    assert len(lines) == len(apart)
    # The witness, whose address is not known, has no MTU to compare.
    starts = [case.starts.replace("primary, witness, 1400", "primary, 1400") for case in apart]
    assert [start for start in starts if not any(line.startswith(start) for line in lines)] == []


def test_good_hosts_are_not_refused_and_check_mode_sees_the_same(tmp_path):
    files = files_of_all()
    done = precheck(tmp_path, lambda inventory: None)
    assert done.returncode == 0, done.stdout
    checked = deploy.run_playbook("plover.vmft.precheck", LAB / "case.yml", "--check", "--diff")
    assert checked.returncode == 0 and [line for line in checked.stdout.splitlines() if "changed=" in line] == [
        line for line in done.stdout.splitlines() if "changed=" in line
    ]
    assert files_of_all() == files
