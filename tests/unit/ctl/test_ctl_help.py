# SPDX-License-Identifier: GPL-3.0-or-later
"""ploverctl's help: each verb says what it does, how it is used and what its exit status means."""

from __future__ import annotations

import pytest
from plover.ctl import commands as ctl
from plover.ctl.arguments import VERBS, parser


def shown(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        ctl.main([*words, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_each_verb_has_a_command():
    assert {verb.name for verb in VERBS} == ctl.COMMANDS.keys()


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_describes_the_verb(capsys, verb):
    out = shown(capsys, verb.name)
    assert f"\n{verb.description}\n" in out and f"\nexamples:\n  {verb.example}\n" in out and "\nexit status:\n  0: " in out
    assert verb.example.startswith("ploverctl ") and all(len(line) <= 140 for line in out.splitlines())
    words = verb.example.split()[1:]
    options = parser().parse_args([word for word in words if word != "NAME" and word != "--vm"])
    assert options.command == verb.name and hasattr(options, "format")


def test_help_names_each_verb(capsys):
    out = shown(capsys)
    assert all(verb.name in out and verb.help.split()[0] in out for verb in VERBS) and "\nexamples:\n" in out


def test_events_and_history_tell_of_each_other_and_top_of_other_hosts(capsys):
    assert "'ploverctl history'" in shown(capsys, "events") and "'ploverctl events'" in shown(capsys, "history")
    assert "other hosts' VMs, too, as VM@HOST" in shown(capsys, "top")


@pytest.mark.parametrize("words", [["--vm", "a", "status"], ["status", "--vm", "a"], ["--vm", "b", "status", "--vm", "a"]])
def test_the_vm_may_be_named_before_the_verb_or_after_it(words):
    assert parser().parse_args(words).vm == "a"


def test_without_a_vm_there_is_none():
    assert parser().parse_args(["status"]).vm is None
