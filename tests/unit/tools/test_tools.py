# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools of the quality gates."""

from __future__ import annotations

import stat
import sys

import pytest

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import licence
import pythons


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a/b.py", "# SPDX"),
        ("Makefile", "# SPDX"),
        ("roles/x/files/tool", "# SPDX"),
        ("x.yml", "# SPDX"),
        ("native/src/a.c", "/* SPDX"),
        ("README.md", "<!-- SPDX"),
        ("roles/x/templates/y.json.j2", "{# SPDX"),
        ("lab/guest/shop.lua", "-- SPDX"),
    ],
)
def test_each_kind_of_file_gets_its_comment(name, header):
    text = licence.with_header("first\n", licence.style(name))
    assert text.startswith(header) and text.endswith("\nfirst\n") and licence.has_header(text)


def test_a_script_keeps_its_first_line():
    assert licence.with_header("#!/bin/sh\ntrue\n", licence.HASH).splitlines() == ["#!/bin/sh", f"# {licence.TAG}", "true"]


def test_a_licence_far_down_does_not_count():
    assert not licence.has_header("a\n" * 20 + f"# {licence.TAG}\n")


@pytest.mark.parametrize("name", ["LICENSE", "a.json", "docs/reference/index.rst", "requirements/debian.txt"])
def test_what_can_hold_none(name):
    assert licence.style(name) is None


def test_a_python_that_only_looks_like_one_is_not_taken(tmp_path, monkeypatch):
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\necho 'python3.99: command not found' >&2\nexit 127\n")
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pythons.find(99) is None
    shim.write_text("#!/bin/sh\necho 3.98\n")
    assert pythons.find(99) is None


def test_the_python_that_runs_this_is_found(monkeypatch):
    minor = sys.version_info.minor
    monkeypatch.setenv("PATH", f"{sys.base_prefix}/bin:/usr/bin:/bin")
    found = pythons.find(minor)
    assert found is not None and pythons.runs(str(found), minor) and not pythons.runs(str(found), minor + 1)
