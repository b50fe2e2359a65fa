# SPDX-License-Identifier: GPL-3.0-or-later
"""``plover-exporter --prepare``, run as root before the exporter starts as its own user: the daemons' status folders let it in.

A daemon shares its folder when it starts. Those that started before there was a user plover-exporter are shared here.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from ..host import status_folder
from ..host.console import complain


def prepare(run_dir: Path, group: str = status_folder.GROUP) -> None:
    """Raises ConfigError if there is no such group."""
    for folder in sorted(run_dir.glob("*")):
        try:
            if (folder / status_folder.FOLDER).is_dir() and not status_folder.share(folder, group):
                raise ConfigError(f"there is no group {group} on this host; role 'monitoring' makes it")
        except OSError as error:
            complain(f"{folder}: not shared with {group}: {error}")  # the others are shown all the same
