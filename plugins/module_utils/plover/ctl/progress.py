# SPDX-License-Identifier: GPL-3.0-or-later
"""A line on the terminal that says how far a command is while its answer is waited for. It goes to stderr: the output is the answer's."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable

from ..host import history
from .listing import shortened
from .reply import Reply, text

LOOK_S = 0.5
JOIN_S = 5.0
CLEAR = "\r\x1b[K"


class Progress:
    """``with Progress(...)``: the line is renewed until the block ends, and then removed. Without a terminal nothing is shown."""

    def __init__(self, ask: Callable[[], Reply], key: str, wanted: bool) -> None:
        """``ask()``: the daemon's status; what it has under ``key`` has a sentence."""
        self._ask, self._key = ask, key
        self._wanted, self._ended = wanted and sys.stderr.isatty(), threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Progress:
        if self._wanted:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._wanted:
            self._thread.join(JOIN_S)  # a daemon that hangs keeps nobody waiting
            _write(CLEAR)

    def _show(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(LOOK_S):
            reply = self._ask()
            said = text(reply, self._key, "sentence") or "waiting"  # an older daemon says nothing of it
            line = f"{self._key}, {history.duration(time.monotonic() - began)}: {said}"
            if not self._ended.is_set():
                _write(CLEAR + shortened(line, shutil.get_terminal_size().columns - 1))


def _write(words: str) -> None:
    sys.stderr.write(words)
    sys.stderr.flush()
