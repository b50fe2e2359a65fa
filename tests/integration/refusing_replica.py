# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon, whose QMP loses one answer: that of the command named in the file 'refuse' of its run folder.

QEMU has carried the command out, and the daemon takes it for failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from plover.daemon.life import run_daemon
from plover.errors import QemuError
from plover.host.settings_file import load
from plover.qemu.qmp import Qmp
from plover.replica.daemon import Replica

REFUSE = load(Path(sys.argv[1])).run_path / "refuse"


async def forgetful(self, command: str, **arguments: object):
    answer = await execute(self, command, **arguments)
    if REFUSE.exists() and REFUSE.read_text() == command:
        REFUSE.unlink()
        raise QemuError(f"QMP {command}: its answer was lost")
    return answer


execute, Qmp.execute = Qmp.execute, forgetful

if __name__ == "__main__":
    run_daemon(Replica, "replica")
