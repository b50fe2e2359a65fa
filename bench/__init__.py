# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks. Each is one command that prints a table and writes a JSON file under build/bench/."""

import sys

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "plugins/module_utils"))  # the runtime that is measured is the checkout's
