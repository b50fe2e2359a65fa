# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings file of one VM, ``/etc/plover/NAME.json``."""

from __future__ import annotations

from pathlib import Path

from ..config.settings import Config
from ..errors import ConfigError

FILE_BYTES_MAX = 1 << 20


def load(path: str | Path) -> Config:
    """Read and check ``path``. Raises ConfigError with every problem found."""
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); run the deploy play to write it") from error
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: is over {FILE_BYTES_MAX} bytes; run the deploy play to write it anew")
    return Config.parse(text, path)
