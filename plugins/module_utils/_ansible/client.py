# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules need beyond ``plover.ctl.client``: errors with the remedy, and a wait that outlives a restart of the daemon."""

from __future__ import annotations

import time

from ..plover.ctl import client
from ..plover.errors import ControlError, ControlTimeoutError

RUN_DIR = "/run/plover"
RETRY_S = 0.3


class ClientError(Exception):
    """The daemon does not answer, answers nonsense, or says no."""


class Refusal(ClientError):
    """What was asked for would harm the VM, or cannot be meant."""


class NotYet(ClientError):
    """The time is over, and the VM is not as it was waited for. ``said``: the daemon's last words."""

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
    """The daemon's statuses as it has news, until ``end`` (monotonic), but at least one try; a ClientError in place of a
    status says that it does not answer just now. A daemon that is restarted meanwhile is found again."""
    while True:
        try:
            for reply in client.watch(_path(name, run_dir), end):
                if "unknown command" in str(reply.get("error")) or "not for a witness" in str(reply.get("error")):
                    reply = ask(name, "status", run_dir)  # a daemon from before there was `watch`
                yield reply if reply["ok"] else ClientError(str(reply.get("error")))
        except ControlTimeoutError as error:
            if time.monotonic() < end:  # else it had no news, which is no error
                yield _no_answer(name, run_dir, error)
        except ControlError as error:
            yield _no_answer(name, run_dir, error)
        except ClientError as error:
            yield error
        if time.monotonic() + RETRY_S >= end:
            return
        time.sleep(RETRY_S)


def wait_until(name, holds, timeout_s, what, run_dir=None, news=lambda status: None):
    """The first status for which ``holds``; raises NotYet, with what the daemon said last, after ``timeout_s``."""
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
