# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkout's packages on sys.path, for all tests."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in ("plugins/module_utils", "plugins/modules", "."):
    sys.path.insert(0, str(ROOT / folder))

# The checkout under the collection's own name, as plugins import each other by it.
for depth in ("ansible_collections", "ansible_collections.plover", "ansible_collections.plover.vmft"):
    package = sys.modules.setdefault(depth, types.ModuleType(depth))
    package.__path__ = [str(ROOT)] if depth.endswith("vmft") else []
importlib.import_module("ansible_collections.plover.vmft.plugins.module_utils")

try:
    from hypothesis import settings
except ImportError:  # the integration tests do without it
    pass
else:
    from tests.examples import examples

    # The same examples in every run, and no clock: the machines are small and busy.
    settings.register_profile("plover", deadline=None, derandomize=True, max_examples=examples(60))
    settings.load_profile("plover")
