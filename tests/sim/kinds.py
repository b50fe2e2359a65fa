# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of messages."""

from __future__ import annotations

from plover.protocol import wire

OF_SYNCVMS = (
    wire.Bitmap,
    wire.Hashes,
    wire.Divergent,
    wire.BlockHashes,
    wire.StageBlocks,
    wire.StagePages,
    wire.StageEnd,
    wire.Resend,
    wire.Staged,
    wire.Applied,
)
