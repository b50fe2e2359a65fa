# SPDX-License-Identifier: GPL-3.0-or-later
"""Real faults on real hosts: `python3 -m lab.chaos --rounds N`. Start at `runner.py`; the faults are in `faults.py`."""
