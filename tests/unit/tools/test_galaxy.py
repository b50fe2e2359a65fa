# SPDX-License-Identifier: GPL-3.0-or-later
"""What galaxy.yml says is true, and the tarball has the documents that a user reads."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import build_collection  # noqa: E402


def test_no_address_is_made_up():
    said = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    assert {"namespace", "name", "version", "readme", "authors", "license"} <= said.keys()
    assert "example" not in (ROOT / "galaxy.yml").read_text()


def test_the_tarball_has_what_a_user_reads():
    assert {"README.md", "SECURITY.md", "CHANGELOG.rst", "LICENSE", "docs"} <= set(build_collection.PARTS)
    assert all((ROOT / part).exists() for part in build_collection.PARTS)
