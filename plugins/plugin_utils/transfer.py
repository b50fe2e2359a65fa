# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads about a transfer under way. Pure."""

from __future__ import annotations

MIB = 1 << 20


def progress(done, total, seconds):
    """``done`` of ``total`` bytes have arrived within ``seconds``."""
    out = f"{done // MIB} of {total // MIB} MiB"
    if not done or seconds <= 0:
        return out
    return f"{out}, {done / MIB / seconds:.0f} MiB/s, {max(0, total - done) * seconds / done:.0f} s left"
