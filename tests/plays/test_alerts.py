# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules, judged by Prometheus' own tool: each fires on what the survivors say, and not otherwise."""

from __future__ import annotations

import subprocess

import yaml

from lab.paths import ROOT
from lab.prometheus import promtool

RULES = ROOT / "roles" / "monitoring" / "files" / "plover.rules.yml"
TESTS = ROOT / "tests" / "plays" / "alerts.test.yml"


def run(*words):
    done = subprocess.run([promtool(), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_well_formed():
    run("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_each_alert_fires_when_it_should_and_not_otherwise():
    run("test", "rules", TESTS)


def test_each_alert_has_a_test_in_which_it_fires():
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    fired = {
        case["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert {rule["alert"] for rule in rules} == fired
