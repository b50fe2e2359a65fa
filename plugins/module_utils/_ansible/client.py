# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules' client of a daemon: ``plover.ctl.client`` plus errors with the remedy, and a wait that outlives the daemon's restart."""

from __future__ import annotations

import time

from ..plover.ctl import client
from ..plover.errors import ControlError, ControlTimeoutError

RUN_DIR = "/run/plover"
RETRY_S = 0.3


class ClientError(Exception):
    """The daemon does not answer, answers nonsense, or says no."""


class Refusal(ClientError):
    """The request would harm the VM, or makes no sense here."""


class NotYet(ClientError):
    """The VM did not reach the wanted state in time. ``said``: the daemon's last words."""

    def __init__(self, name, what, timeout_s, said):
        super().__init__(f"VM {name} is not {what} after {timeout_s:g} s (timeout_s). The daemon says: {said}")
        self.said = said


def ask(name, command, run_dir=None, timeout_s=10.0):
    """The daemon's reply to ``command`` as a dictionary; raises ClientError."""
    try:
        return client.ask(_path(name, run_dir), {"cmd": command}, timeout_s)
    except ControlError as error:
        raise _no_answer(name, run_dir, error) from error


def watch(name, end, run_dir=None):
    """Yields the daemon's status at each change until ``end`` (monotonic), with at least one try. Yields a ClientError instead
    while the daemon does not answer. Finds a daemon again that is restarted meanwhile."""
    while True:
        try:
            for reply in client.watch(_path(name, run_dir), end):
                if "unknown command" in str(reply.get("error")) or "not for a witness" in str(reply.get("error")):
                    reply = ask(name, "status", run_dir)  # a daemon from before there was `watch`
                yield reply if reply["ok"] else ClientError(str(reply.get("error")))
        except ControlTimeoutError as error:
            if time.monotonic() < end:  # otherwise nothing changed, which is no error
                yield _no_answer(name, run_dir, error)
        except ControlError as error:
            yield _no_answer(name, run_dir, error)
        except ClientError as error:
            yield error
        if time.monotonic() + RETRY_S >= end:
            return
        time.sleep(RETRY_S)


def wait_until(name, holds, timeout_s, what, run_dir=None, news=lambda status: None):
    """The first status for which ``holds`` is true. Raises NotYet, with the daemon's last words, after ``timeout_s``."""
    said = "nothing"
    for status in watch(name, time.monotonic() + timeout_s, run_dir):
        if isinstance(status, ClientError):
            said = str(status)
            continue
        news(status)
        if holds(status):
            return status
        said = "{}, {}: {}".format(status.get("role"), status.get("service"), status.get("sentence"))
    raise NotYet(name, what, timeout_s, said)


def _path(name, run_dir):
    return f"{run_dir or RUN_DIR}/{name}/ctl.sock"


def _no_answer(name, run_dir, error):
    return ClientError(f"{_path(name, run_dir)}: {error}; is the unit plover-replica@{name} or plover-witness@{name} running?")
