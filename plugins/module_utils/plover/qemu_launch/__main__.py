# SPDX-License-Identifier: GPL-3.0-or-later
"""ExecStart of plover-qemu@NAME: become the QEMU that the replica daemon prepared."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..host.console import complain


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        complain("usage: plover-qemu NAME")
        return 2
    path = Path(os.environ.get("PLOVER_RUN_DIR", "/run/plover")) / argv[0] / "qemu.json"
    try:
        launch = json.loads(path.read_text(encoding="utf-8"))
        os.execve(launch["argv"][0], launch["argv"], {**os.environ, **launch["env"]})
    except (OSError, ValueError, KeyError) as error:
        complain(f"{path}: {error}; this unit is started by plover-replica@{argv[0]}, not by hand")
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
