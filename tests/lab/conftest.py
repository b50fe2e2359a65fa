# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from lab import deploy
from lab.__main__ import up
from lab.hosts import HOSTS, down


@pytest.fixture(scope="module")
def fresh_hosts():
    """Three hosts on which nothing of Plover was ever installed, and the inventory that leads to them."""
    assert down() == []
    up(list(HOSTS))
    deploy.write_inventory(patient=True)
    yield
    assert down() == []
