# SPDX-License-Identifier: GPL-3.0-or-later
"""While an action plugin does something long on a host, a second look at that host shows in the play's output how far it is."""

from __future__ import annotations

import copy
import threading
import time

from ansible.errors import AnsibleError
from ansible.utils.display import Display

EVERY_S = 5

display = Display()


class Watched:
    """``with Watched(...)``: a line every EVERY_S seconds until the block ends. That nothing can be seen is no reason to fail."""

    def __init__(self, connection, host, label, command, text):
        """``command(seconds)``: what is asked of the host; ``text(out, seconds)``: what that means, for people. ``seconds``: since
        the beginning."""
        self._connection, self._host, self._label, self._command, self._text = connection, host, label, command, text
        self._ended, self._began = threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self):
        return time.monotonic() - self._began

    def say(self, text):
        display.display(f"  {self._host} {self.seconds:6.1f} s  {self._label}: {text}")

    def _watch(self):
        connection = copy.copy(self._connection)  # the work uses the other one at the same time
        while not self._ended.wait(EVERY_S):
            try:
                code, out, _err = connection.exec_command(self._command(self.seconds), sudoable=False)
                text = self._text(out if code == 0 else b"", self.seconds)
            except (AnsibleError, OSError, ValueError):
                return
            if not self._ended.is_set():
                self.say(text)
