# SPDX-License-Identifier: GPL-3.0-or-later
"""How bench-deploy reads Ansible's log, and what it accepts as a good run."""

from __future__ import annotations

from bench import deploy

LOG = """\
2026-01-02 03:04:05,100 p=7 u=root n=ansible INFO| PLAY [Refuse] ****
2026-01-02 03:04:05,200 p=7 u=root n=ansible INFO| TASK [plover.vmft.prechecks : Check the inventory] ****
2026-01-02 03:04:05,450 p=7 u=root n=ansible INFO| ok: [primary] => (item=TASK [x] *)
2026-01-02 03:04:05,700 p=7 u=root n=ansible INFO| RUNNING HANDLER [plover.vmft.runtime : Restart] ****
2026-01-02 03:05:07,700 p=7 u=root n=ansible INFO| PLAY RECAP ****
"""
GOOD = {
    "first_s": 30.0,
    "second_s": 20.0,
    "second_changed": 0,
    "machine": {"cpu": "any", "cores": 2},
    "slowest": {"first": [{"s": 3.0, "task": "qemu : Install"}], "second": []},
}


def test_a_task_lasts_until_the_next_one_begins_and_the_longest_is_first():
    assert deploy.tasks(LOG) == [(62.0, "plover.vmft.runtime : Restart"), (0.5, "plover.vmft.prechecks : Check the inventory")]


def test_a_log_without_tasks_has_none():
    assert deploy.tasks("") == deploy.tasks("2026-01-02 03:04:05,100 p=7 | PLAY [x] **\nnonsense | TASK") == []


def test_a_second_run_that_changes_something_or_a_slow_one_is_not_good():
    assert deploy.good(GOOD)
    assert not any(deploy.good({**GOOD, **bad}) for bad in ({"second_changed": 1}, {"second_s": 61.0}, {"first_s": 241.0}))


def test_the_table_names_the_longest_task():
    assert "   3.0 s  qemu : Install" in deploy.table(GOOD)
