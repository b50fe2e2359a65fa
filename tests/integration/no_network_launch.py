# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's launcher in a network of its own, as `PrivateNetwork=yes` of plover-qemu@.service has it."""

from __future__ import annotations

import ctypes
import os
import sys

from plover.qemu_launch.__main__ import main

CLONE_NEWNET = 0x40000000

if __name__ == "__main__":
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    raise SystemExit(main(sys.argv[1:]))
