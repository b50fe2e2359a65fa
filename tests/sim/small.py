# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator makes pages and waits small by setting constants of the runtime. Here tests get them for as long as they run.

Other tests of the same process see the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plover.core import follower
from plover.protocol import pages
from plover.syncvm import block_deltas as patches
from plover.syncvm import initial_sync as fill
from plover.syncvm import initial_sync_check as fill_check

SET = (
    (pages, "PAGE_BYTES"),
    (pages, "BLOCK_BYTES"),
    (pages, "CHUNK_PAGES"),
    (patches, "PAGES_MIN"),
    (fill, "CHUNKS_PER_TURN"),
    (fill, "FEW_PAGES"),
    (fill_check, "PART_PAGES"),
    (follower, "RESTART_S"),
)


def _now() -> list:
    return [getattr(module, name) for module, name in SET]


def _set(values: list) -> None:
    for (module, name), value in zip(SET, values):
        setattr(module, name, value)


_real = _now()

import tests.sim.world  # noqa: E402, F401  it sets them

_simulated = _now()
_set(_real)


@pytest.fixture(scope="module")
def small_pages() -> Iterator[None]:
    before = _now()
    _set(_simulated)
    yield
    _set(before)
