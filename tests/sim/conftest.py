# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator makes pages and waits small by setting the runtime's constants; here it does so for its own tests only."""
from __future__ import annotations

import pytest
from plover.core import follower
from plover.protocol import pages
from plover.syncvm import block_deltas as patches
from plover.syncvm import initial_sync as fill

SET = ((pages, "PAGE_BYTES"), (pages, "BLOCK_BYTES"), (pages, "CHUNK_PAGES"), (patches, "PAGES_MIN"),
       (fill, "CHUNKS_PER_TURN"), (fill, "FEW_PAGES"), (follower, "RESTART_S"))
_real = [getattr(module, name) for module, name in SET]

import tests.sim.world  # noqa: E402, F401  it sets them

_simulated = [getattr(module, name) for module, name in SET]
for (_module, _name), _value in zip(SET, _real):
    setattr(_module, _name, _value)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    for (module, name), value in zip(SET, _simulated):
        monkeypatch.setattr(module, name, value)
