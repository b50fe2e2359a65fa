# SPDX-License-Identifier: GPL-3.0-or-later
"""Two memories between which syncvms are made."""

from __future__ import annotations

import os

import pytest
from syncvm_pair import Pair

from lab.paths import ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    os.environ.setdefault("PLOVER_NATIVE_DIR", str(ROOT / "native" / "build"))
    return Pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def pair(made):
    made.reset()
    made.spoil = lambda message: message
    return made
