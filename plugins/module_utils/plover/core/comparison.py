# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of both VMs' output in Python: the reference for the one in C. Pure."""

from __future__ import annotations

from ..protocol import sayings
from .agreement import Agreement


class Reference:
    """The port of ports/comparison.py."""

    agreement = Agreement
    said = staticmethod(sayings.said)
