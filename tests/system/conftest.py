# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit tests' helpers serve here as well."""

from __future__ import annotations

import sys

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit" / "support"))
