# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime's rooms (docs/ARCHITECTURE.md, "Where things live"): imports only go down, never in a circle, and what is pure
imports nothing that could touch the world. An import that only serves type hints counts as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lab.paths import ROOT

RUNTIME = ROOT / "plugins" / "module_utils" / "plover"
ROWS = [
    {"replica", "witness", "ctl", "exporter", "qemu_launch", "watchdog"},
    {"daemon"},
    {"links", "rdma", "disks", "qemu", "host"},
    {"dataplane"},
    {"native"},
    {"core"},
    {"syncvm", "consensus", "libvirt"},
    {"ports", "protocol", "config"},
    {""},  # the package itself: errors, the version
]
PURE = {"core", "syncvm", "consensus", "libvirt", "ports", "protocol", "config"}
TOUCHES_THE_WORLD = {
    "asyncio",
    "ctypes",
    "fcntl",
    "logging",
    "mmap",
    "multiprocessing",
    "os",
    "random",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
}


def name_of(path: Path) -> str:
    """Of a file's module, below ``plover``; of ``__init__.py`` that of its package."""
    parts = path.relative_to(RUNTIME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(RUNTIME.rglob("*.py"))}


def room_of(module: str) -> str:
    return module.split(".")[0] if "." in module or (RUNTIME / module).is_dir() else ""


def row_of(module: str) -> int:
    """0 is the top. What can be run as a program is there, whatever room it lies in."""
    if module.endswith("__main__"):
        return 0
    return next(n for n, rooms in enumerate(ROWS) if room_of(module) in rooms)


@cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))))


def imported(module: str) -> Iterator[str]:
    """The runtime's modules that ``module`` imports, anywhere in it."""
    package = FILES[module].relative_to(RUNTIME).parent.parts
    for node in nodes(module):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
        for alias in node.names:
            whole = ".".join(filter(None, (*base, alias.name)))
            yield whole if whole in FILES else ".".join(filter(None, base))


@cache
def arrows() -> dict[str, set[str]]:
    """Not at once: each of pytest's workers imports this file, and few run a test of it."""
    return {module: set(imported(module)) - {module} for module in FILES}


@pytest.mark.parametrize("module", FILES)
def test_arrows_only_go_down(module):
    assert room_of(module) in set().union(*ROWS), f"{FILES[module]} lies in no known room"
    assert [other for other in arrows()[module] if row_of(other) < row_of(module)] == []


def test_there_is_no_circle():
    left = {module: set(others) for module, others in arrows().items()}
    while leaves := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in leaves}
    assert {module: sorted(others & left.keys()) for module, others in left.items()} == {}


def test_no_two_rooms_need_each_other():
    rooms = {
        (room_of(module), room_of(other)) for module, others in arrows().items() if not module.endswith("__main__") for other in others
    }
    assert [(one, other) for one, other in rooms if one < other and (other, one) in rooms] == []


@pytest.mark.parametrize("module", [name for name in FILES if room_of(name) in PURE and not name.endswith("__main__")])
def test_a_pure_room_touches_nothing(module):
    names = {alias.name for node in nodes(module) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes(module) if isinstance(node, ast.ImportFrom) and not node.level}
    assert {name.split(".")[0] for name in names} & TOUCHES_THE_WORLD == set()


def test_the_imports_were_read():
    assert len(FILES) > 80 and sum(map(len, arrows().values())) > 250
