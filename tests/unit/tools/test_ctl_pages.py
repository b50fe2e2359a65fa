# SPDX-License-Identifier: GPL-3.0-or-later
"""ploverctl's manual page and completion are of its command line: bash completes, and man prints without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from plover.ctl import arguments

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import build_collection
import ctl_pages

PAGE = ctl_pages.man_page(arguments.parser())
VERBS = ctl_pages.verbs(arguments.parser())


def plain(page):
    """The page's words, without roff's own."""
    return re.sub(r"\\f[BIR]|\\&", "", page).replace("\\-", "-").replace("\\(aq", "'")


def section(verb):
    return plain(PAGE).split(f"\n.SS {verb}\n")[1].split("\n.SS ")[0].split("\n.SH ")[0]


def test_each_verb_of_the_table_is_one_of_the_parser():
    assert list(VERBS) == [verb.name for verb in arguments.VERBS]


@pytest.mark.parametrize("verb", arguments.VERBS, ids=lambda verb: verb.name)
def test_the_page_has_each_verb_with_its_options_examples_and_exit_status(verb):
    told = section(verb.name)
    names = [name for action in VERBS[verb.name]._actions for name in action.option_strings]
    assert set(names) >= {name for option in verb.options for name in option.names if name.startswith("-")}
    assert [name for name in names if not re.search(rf"^(.*, )?{re.escape(name)}( |,|$)", told, re.MULTILINE)] == []
    assert all(option.words.get("help", "") in told for option in verb.options)
    assert verb.description in told and f"  {verb.example}\n" in told
    assert all(f"  {status}\n" in told for status in verb.exit_status.split("; "))


def test_the_page_has_the_options_of_all_verbs():
    head = plain(PAGE).split(".SH OPTIONS")[1].split(".SH ")[0]
    assert all(name in head for name in ("-h, --help", "--vm NAME", "--version"))


def test_man_prints_the_page_without_a_warning(tmp_path):
    path = tmp_path / ctl_pages.MAN
    path.write_text(PAGE)
    assert [line for line in PAGE.splitlines() if line.startswith("'") or re.match(r"\.[a-z]", line) and line not in (".nf", ".fi")] == []
    if not shutil.which("groff"):
        return
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_same_command_line_gives_the_same_pages(tmp_path):
    for name in ("a", "b"):
        subprocess.run([sys.executable, str(ROOT / "tools" / "ctl_pages.py"), str(tmp_path / name)], check=True, env={"COLUMNS": "40"})
    for name in (ctl_pages.MAN, ctl_pages.COMPLETION):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() == ctl_pages.pages()[name].encode()


def test_the_build_packs_both_and_the_role_links_to_them():
    files = build_collection.contents()["roles/runtime/files/plover-runtime.tar"]
    role = yaml.safe_load((ROOT / "roles" / "runtime" / "vars" / "main.yml").read_text())
    assert {f"share/{name}" for name in (ctl_pages.MAN, ctl_pages.COMPLETION)} == {name for name in files if name.startswith("share/")}
    assert {page["to"].removeprefix("/opt/plover/current/") for page in role["runtime_pages"]} <= files.keys()
    assert files[f"share/{ctl_pages.MAN}"].read_text() == PAGE


# --- the completion, by bash ---


@pytest.fixture
def complete(tmp_path):
    """What bash offers after these words; the last one is the one that is being typed."""
    for name in ("shop", "mail", "$(touch pwned)"):
        (tmp_path / f"{name}.json").write_text("{}")
    script = tmp_path / "script"
    script.write_text(ctl_pages.completion(arguments.parser(), tmp_path))

    def offered(*words):
        code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ploverctl; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "--norc", "-c", code, "bash", str(script), "ploverctl", *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        assert done.stderr == "" and not (tmp_path / "pwned").exists()
        return done.stdout.split()

    return offered


def test_verbs_are_offered_first(complete):
    assert complete("") == [*VERBS, "-h", "--help", "--vm", "--version"]
    assert (
        complete("c") == ["cold-start", "console"]
        and complete("s") == ["status", "switchover", "start", "shutdown", "support-bundle"]
        and complete("--v") == ["--vm", "--version"]
    )


@pytest.mark.parametrize("verb", VERBS)
def test_each_option_of_a_verb_is_offered(complete, verb):
    names = [name for action in VERBS[verb]._actions for name in action.option_strings]
    assert complete(verb, "-") == names == complete("--vm", "shop", verb, "-") == complete("--vm", "=", "shop", verb, "-")


@pytest.mark.parametrize("before", [["--vm"], ["status", "--vm"], ["--vm", "="], ["events", "--follow", "--vm"]])
def test_vms_are_offered(complete, before):
    assert complete(*before, "") == ["mail", "shop"] and complete(*before, "s") == ["shop"]


def test_values_are_offered(complete, tmp_path):
    assert complete("status", "-o", "") == ["text", "json"] == complete("--vm", "shop", "list", "-o", "")
    assert complete("rdma", "")[0] == "check" and complete("events", "-n", "") == []
    assert set(complete("support-bundle", "--out", f"{tmp_path}/s")) == {f"{tmp_path}/{name}" for name in ("script", "shop.json")}
    assert set(complete("import", f"{tmp_path}/s")) == {f"{tmp_path}/{name}" for name in ("script", "shop.json")}
    assert complete("nonsense", "") == []


def test_a_host_without_a_vm(complete, tmp_path):
    for path in tmp_path.glob("*.json"):
        path.unlink()
    assert complete("--vm", "") == []


def test_bash_itself_finds_the_function(tmp_path):
    script = tmp_path / "script"
    script.write_text(ctl_pages.completion(arguments.parser()))
    done = subprocess.run(["bash", "--norc", "-uc", f"source {script}; complete -p ploverctl"], capture_output=True, text=True, check=True)
    assert done.stdout == "complete -F _ploverctl ploverctl\n" and "/etc/plover/*.json" in script.read_text()
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", str(script)], check=True)


def test_the_folder_is_that_of_the_settings():
    assert Path("/etc/plover") == ctl_pages.CONFIG_DIR
