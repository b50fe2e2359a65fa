# SPDX-License-Identifier: GPL-3.0-or-later
"""Interesting histories, told in full in transcripts/*.txt: what is typed there gives what is written there, to the letter.

`REWRITE=1 pytest tests/sim/test_transcripts.py` writes them anew; then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sim.script import replay

FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_history_is_as_written(path):
    written = path.read_text()
    now = replay(written)
    if os.environ.get("REWRITE"):
        path.write_text(now)
    else:
        assert now == written


def test_the_interesting_histories_are_there():
    assert len(FILES) >= 12 and all(len(path.read_text().splitlines()) < 150 for path in FILES)
