# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of links by TLS share."""

from __future__ import annotations

from pathlib import Path

import pytest
from plover.links import peers, security
from plover.native import couple
from settings import settings

from lab.pki import Authority


@pytest.fixture
def quick(monkeypatch):
    """Dials again at once, and looks at the links often."""
    monkeypatch.setattr(peers, "RETRY_S", 0.01)
    monkeypatch.setattr(security, "LOOK_S", 0.05)


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """The library that was built here, not an installed one."""
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(Path(__file__).resolve().parents[3] / "native" / "build"))
    couple._library.cache_clear()


@pytest.fixture
def ca():
    return Authority(settings("witness")["cluster_id"])
