# SPDX-License-Identifier: GPL-3.0-or-later
"""start FOLDER | finish FOLDER: clients of the lab's VM that write all the time; `finish` fails if one was harmed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from lab import demo, deploy

LIMIT_S = 120.0


def start(folder: Path) -> None:
    deploy.wait_service(60)
    load = demo.start_load(folder / "clients.json", "lab.client")
    (folder / "clients.pid").write_text(str(load.pid))
    end = time.monotonic() + LIMIT_S
    while not demo.acked(folder):
        if load.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the clients do not write; see {folder / 'client.log'}")
        time.sleep(0.2)


def finish(folder: Path) -> None:
    try:
        os.kill(int((folder / "clients.pid").read_text()), signal.SIGTERM)
    except ProcessLookupError:
        pass  # they end by themselves after ten minutes
    end = time.monotonic() + LIMIT_S
    while not (folder / "clients.json").exists():
        if time.monotonic() > end:
            raise SystemExit(f"the clients failed; see {folder / 'client.log'}")
        time.sleep(0.2)
    time.sleep(0.2)
    result = json.loads((folder / "clients.json").read_text())
    print(json.dumps(result))
    if result["lost"] or result["connections_broken"] or result["acked"] < 100:
        raise SystemExit(f"clients of the VM were harmed: {result}")


if __name__ == "__main__":
    {"start": start, "finish": finish}[sys.argv[1]](Path(sys.argv[2]))
