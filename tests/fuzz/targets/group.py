# SPDX-License-Identifier: GPL-3.0-or-later
"""A group of three members for the targets: its settings, and where its files are."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from plover.config.settings import Config
from plover.protocol import codec
from settings import settings

FOLDER = Path(tempfile.mkdtemp(prefix="plover-fuzz-", dir="/dev/shm"))
atexit.register(shutil.rmtree, FOLDER, True)
SECRET = "0123456789abcdef" * 4
TAG = codec.cluster_tag(settings("primary")["cluster_id"])


def values(member: str, **more: object) -> dict:
    """Its settings, with all files in a folder of this process."""
    places = {key: str(FOLDER / key) for key in ("run_dir", "state_dir", "shm_dir")}
    return settings(member, **places, **more)


def config(member: str, **more: object) -> Config:
    return Config(values(member, **more))
