# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for several files of a test run: making and deploying hosts costs more than most tests on them.

A file that leaves the hosts as it found them says so by its fixture (conftest.py), and the next file gets the same hosts. If
anything else happened to them, their process ids show it, and they are made anew.
"""

from __future__ import annotations

from lab import deploy
from lab.__main__ import execute, up
from lab.hosts import HOSTS, Host, down

UNTOUCHED, DEPLOYED = "untouched", "deployed"
TRACES = (
    "ls -d /etc/plover /opt/plover /var/lib/plover /etc/systemd/system/plover* /etc/qemu-if* "
    "/etc/systemd/system/run-plover* /var/lib/plover-images 2>/dev/null; command -v qemu-system-x86_64"
)


def traces(host: str) -> str:
    """What Plover left there."""
    return execute(host, TRACES).stdout


def _processes() -> list[str]:
    """Other ones after a host was destroyed, or lost its power."""
    return [path.read_text() if (path := Host(host).pid_file).exists() else "" for host in HOSTS]


class Lab:
    def __init__(self) -> None:
        self._kept, self._of = "", _processes()

    def take(self, wanted: str) -> None:
        """The hosts are ``wanted`` now. Nothing is kept until :meth:`keep`: a file that fails may leave anything behind."""
        kept = self._kept if self._of == _processes() else ""
        self._kept = ""
        if kept != UNTOUCHED and kept != wanted:
            assert down() == []
            up(list(HOSTS))
        deploy.write_inventory(patient=True)
        if wanted == DEPLOYED:
            if kept != DEPLOYED:
                deploy.play()
            deploy.lead("primary", 120)

    def keep(self, state: str) -> None:
        self._kept, self._of = state, _processes()

    def end(self) -> None:
        self._kept = ""
        assert down() == []
