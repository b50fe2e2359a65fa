# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m plover.watchdog release NAME``: what plover-qemu@NAME runs when its QEMU has ended."""

from __future__ import annotations

import sys

from ..config.settings import CONFIG_DIR
from ..host.console import complain
from ..host.settings_file import load
from ..host.watchdog import release


def main(argv: list[str]) -> int:
    """``release NAME``: what plover-qemu@NAME runs when it has stopped."""
    if len(argv) != 2 or argv[0] != "release":
        complain("usage: python3 -m plover.watchdog release NAME")
        return 2
    config = load(CONFIG_DIR / f"{argv[1]}.json")
    return 0 if config.fence_watchdog == "off" else release(config.fence_watchdog_device)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
