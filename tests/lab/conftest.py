# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest

# Tests in several processes (pytest -n 2 --dist loadfile): each has a lab of its own. Before the lab is imported.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["PLOVER_LAB"] = f"{os.environ.get('PLOVER_LAB', '')}-{worker}"

from lab import deploy
from lab.__main__ import up
from lab.hosts import HOSTS, down


def pytest_configure(config):
    config.addinivalue_line("markers", "quiet: what it judges would not hold beside other work; run it by itself")


@pytest.fixture(scope="module")
def fresh_hosts():
    """Three hosts on which nothing of Plover was ever installed, and the inventory that leads to them."""
    assert down() == []
    up(list(HOSTS))
    deploy.write_inventory()
    yield
    assert down() == []
