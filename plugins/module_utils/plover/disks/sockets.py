# SPDX-License-Identifier: GPL-3.0-or-later
"""The UNIX sockets of the disks' streams. They lie in root's own folder: QEMU gets one to listen on, and is let in to the other."""

from __future__ import annotations

from pathlib import Path

from ..config.settings import Config

LISTENER = "export"  # what QEMU calls the descriptor of :func:`export_socket`
OF_IMAGES: dict[str, object] = {"type": "fd", "data": {"str": LISTENER}}  # for nbd-server-start


def export_socket(config: Config) -> Path:
    """A secondary's QEMU listens there: its NBD server."""
    return config.run_path / "export.sock"


def stream_socket(config: Config) -> Path:
    """A leader's daemon listens there: the secondary's images, for the NBD clients of our QEMU."""
    return config.run_path / "disks.sock"
