# SPDX-License-Identifier: GPL-3.0-or-later
"""A control socket with ready answers, good or bad; a real control server: ctl/test_watch.py."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path


class FakeDaemon:
    """Answers each connection with the next of ``answers`` (bytes, or a dictionary as a JSON line); repeats the last."""

    def __init__(self, run_dir, answers):
        self.run_dir, self.requests = run_dir, []
        self._answers = [a if isinstance(a, bytes) else json.dumps(a).encode() + b"\n" for a in answers]
        folder = Path(run_dir, "demo")
        folder.mkdir()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / "ctl.sock"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
                with peer:
                    self.requests.append(json.loads(peer.makefile().readline()))
                    peer.sendall(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
            except OSError:
                return

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
