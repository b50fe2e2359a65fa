# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of links by TLS share."""

from __future__ import annotations

import pytest
from plover.links import peers, security
from settings import settings

from lab.pki import Authority


@pytest.fixture
def quick(monkeypatch):
    """Dials again at once, and looks at the links often."""
    monkeypatch.setattr(peers, "RETRY_S", 0.01)
    monkeypatch.setattr(security, "LOOK_S", 0.05)


@pytest.fixture
def ca():
    return Authority(settings("witness")["cluster_id"])
