# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from shared import DEPLOYED, UNTOUCHED, Lab, traces

from lab.hosts import HOSTS


@pytest.fixture(scope="session")
def lab():
    out = Lab()
    yield out
    out.end()


@pytest.fixture(scope="module")
def fresh_hosts(lab):
    """Three hosts on which nothing of Plover was ever installed, and the inventory that leads to them."""
    lab.take(UNTOUCHED)
    yield
    lab.end()


@pytest.fixture(scope="module")
def untouched_hosts(lab):
    """The same, for a file that leaves nothing on them."""
    lab.take(UNTOUCHED)
    yield
    assert [traces(host) for host in HOSTS] == [""] * len(HOSTS)
    lab.keep(UNTOUCHED)


@pytest.fixture(scope="module")
def deployed(lab, request):
    """The play has run on three hosts, the primary leads, all are in sync; for a file that leaves it so."""
    failed = request.session.testsfailed
    lab.take(DEPLOYED)
    yield
    if request.session.testsfailed == failed:
        lab.keep(DEPLOYED)
