# SPDX-License-Identifier: GPL-3.0-or-later
"""The repository's source files: each can be read in one go, and none is dead."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import PurePath

from test_layers import FILES, arrows

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import licence

LINES_MAX = 400
TRACKED = licence.tracked()
SOURCES = [name for name in TRACKED if PurePath(name).suffix in (".py", ".c", ".h")]
RUNTIME = "plugins/module_utils/plover/"
FOUND_BY_ITS_NAME = ("__init__", "__main__", "conftest")  # pytest finds test_*.py as well, Ansible finds its plugins


@cache
def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


def test_a_file_can_be_read_in_one_go():
    lines = {name: len(read(name).splitlines()) for name in SOURCES}
    assert {name: count for name, count in lines.items() if count > LINES_MAX} == {}


@cache
def imported_by_plugins() -> set[str]:
    """Modules of the runtime that Ansible's plugins import."""
    out = set()
    for name in SOURCES:
        if name.startswith("plugins/") and not name.startswith(RUNTIME):
            for node in ast.walk(ast.parse(read(name))):
                if isinstance(node, ast.ImportFrom):
                    base = re.sub(r".*\bplover\b\.?", "", node.module or "")
                    out |= {base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)}
    return out & FILES.keys()


def test_each_module_of_the_runtime_is_needed_by_a_program_or_a_plugin():
    waiting = [*imported_by_plugins(), *(module for module in FILES if module.endswith("__main__"))]
    reached: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += [*arrows()[module], module.rpartition(".")[0]]  # its package is imported first
    assert sorted(FILES.keys() - reached) == []


def test_each_other_python_file_is_a_test_or_named_somewhere():
    """In code, a Makefile or a document: a helper whose name stands nowhere is not used."""
    words = {name: set(re.findall(r"\w+", read(name))) for name in TRACKED if not name.startswith("tests/sim/transcripts/")}
    helpers = [PurePath(name) for name in SOURCES if name.endswith(".py") and not name.startswith("plugins/")]
    helpers = [path for path in helpers if path.stem not in FOUND_BY_ITS_NAME and not path.stem.startswith("test_")]
    assert [str(path) for path in helpers if not any(path.stem in words[name] for name in words.keys() - {str(path)})] == []


def test_the_files_were_read():
    assert len(SOURCES) > 400 and len(imported_by_plugins()) > 3
