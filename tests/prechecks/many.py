# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m tests.prechecks.many PLAYBOOK FOLDER: ansible-playbook for each inventory of a folder, N.yml; its output in
N.out, its exit status in N.rc. Ansible is loaded once and forked for each, which halves the work. As many at a time as there
are cores.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Loaded before the forks, for all of them.
import ansible.executor.playbook_executor
import ansible.plugins.callback.default
import ansible.plugins.strategy.linear  # noqa: F401
from ansible.cli.playbook import PlaybookCLI


def start(book: str, inventory: Path) -> int:
    """The process that runs one."""
    child = os.fork()
    if child:
        return child
    code: object = 70
    try:
        output = os.open(inventory.with_suffix(".out"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = PlaybookCLI(["ansible-playbook", "-i", str(inventory), book]).run()
    except SystemExit as error:
        code = error.code
    finally:
        sys.stdout.flush()
        inventory.with_suffix(".rc").write_text(str(code))
        os._exit(0)  # never on as a second copy of this program


def main(book: str, folder: str) -> None:
    waiting, running = sorted(Path(folder).glob("*.yml")), 0
    while waiting or running:
        if waiting and running < (os.cpu_count() or 1):
            start(book, waiting.pop())
            running += 1
        else:
            os.wait()
            running -= 1


if __name__ == "__main__":
    main(*sys.argv[1:])
