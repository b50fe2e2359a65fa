# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of the control socket, and a daemon that answers slowly or not; good and bad answers: _ansible/test_client.py."""

from __future__ import annotations

import socket
import sys
import threading
import time
from subprocess import run

import pytest
from plover.ctl import client
from plover.errors import ControlError, ControlTimeoutError

from lab.paths import ROOT

LIMIT_S, LONG_S = 0.2, 3.0


@pytest.fixture
def slow(folder):
    """The path of a socket whose daemon says a byte now and then, for LONG_S, and never ends its line."""
    listener, over = socket.socket(socket.AF_UNIX), threading.Event()
    listener.bind(str(folder / "ctl.sock"))
    listener.listen()

    def serve():
        peer, _ = listener.accept()
        with peer:
            end = time.monotonic() + LONG_S
            try:
                while time.monotonic() < end and not over.wait(0.02):
                    peer.sendall(b" ")
            except OSError:
                pass  # the client has gone, as it should

    thread = threading.Thread(target=serve)
    thread.start()
    yield folder / "ctl.sock"
    over.set()
    thread.join()
    listener.close()


def test_an_answer_in_drops_is_given_up_as_a_silence_is(slow):
    began = time.monotonic()
    with pytest.raises(ControlTimeoutError):
        client.ask(slow, {"cmd": "status"}, LIMIT_S)
    assert time.monotonic() - began < LONG_S / 2


def test_a_watcher_gives_up_an_answer_in_drops_too(slow, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_S", LIMIT_S)
    began = time.monotonic()
    with pytest.raises(ControlTimeoutError):
        next(client.watch(slow))
    assert time.monotonic() - began < LONG_S / 2


def test_a_path_that_is_too_long_for_a_socket_is_an_error_like_others(folder):
    with pytest.raises(ControlError, match="too long"):
        client.ask(folder / ("x" * 120), {"cmd": "status"}, LIMIT_S)


def test_a_module_carries_little_of_the_runtime_to_the_host():
    """Ansible packs what the client imports, and its parents, into each module."""
    code = "import sys, plover.ctl.client; print(*sorted(name for name in sys.modules if name.startswith('plover')))"
    said = run([sys.executable, "-c", code], cwd=ROOT / "plugins" / "module_utils", capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["plover", "plover.ctl", "plover.ctl.client", "plover.errors"]
