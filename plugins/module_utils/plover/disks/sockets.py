# SPDX-License-Identifier: GPL-3.0-or-later
"""The UNIX sockets of the disks' streams, in the one folder where QEMU may make sockets and connect to them."""

from __future__ import annotations

from pathlib import Path

from ..config.settings import Config


def export_socket(config: Config) -> Path:
    """A secondary's QEMU listens there: its NBD server."""
    return config.run_path / "export.sock"


def stream_socket(config: Config) -> Path:
    """A leader's daemon listens there: the secondary's images, for the NBD clients of our QEMU."""
    return config.run_path / "disks.sock"


def of_images(config: Config) -> dict[str, object]:
    """The same as :func:`export_socket`, as QEMU's nbd-server-start wants it."""
    return {"type": "unix", "data": {"path": str(export_socket(config))}}
