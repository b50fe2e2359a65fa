# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m plover.config FILE``: check a settings file; ``--help`` lists the settings."""

from __future__ import annotations

import sys

from ..errors import ConfigError
from ..host.console import complain, say
from ..host.settings_file import load
from . import budget
from .budget import DERIVED
from .settings import REQUIRED, SETTINGS


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0] in ("-h", "--help"):
        say("usage: python3 -m plover.config FILE\n\nChecks a settings file. Settings:")
        defaults = budget.derive({key: row.default for key, row in SETTINGS.items()})
        for key, row in SETTINGS.items():
            default = "required" if row.default is REQUIRED else f"default {row.default!r}"
            if row.default is None:
                default = f"default {DERIVED[key]} = {defaults[key]}"
            say(f"  {key}: {row.help} ({default})")
        whole = budget.split({**{key: row.default for key, row in SETTINGS.items()}, **defaults})
        say(f"\nThe budget with these defaults: {whole}.")
        return 0 if len(argv) == 1 else 2
    try:
        load(argv[0])
    except ConfigError as error:
        complain(error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
