# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks: each one command, each with a table to read and a file for programs under build/bench/."""

import sys

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "plugins/module_utils"))  # the runtime that is measured is the checkout's
