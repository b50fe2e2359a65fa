# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark of a new VM, for tests that run no play: with it, the VM's members start from nothing, once."""

from __future__ import annotations

from pathlib import Path

from plover.host.store import FIRST_BOOT


def mark_first_boot(settings: dict) -> None:
    """Puts the mark into the state folder of the member with these settings, as roles `witness` and `vm` do."""
    folder = Path(settings["state_dir"]) / settings["name"]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / FIRST_BOOT).touch()
