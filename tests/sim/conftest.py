# SPDX-License-Identifier: GPL-3.0-or-later
"""All tests here run with the simulator's small pages and waits."""

from __future__ import annotations

import pytest

from tests.sim.small import small_pages  # noqa: F401


@pytest.fixture(autouse=True, scope="module")
def simulated(small_pages):  # noqa: F811
    pass
