# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter of on_event_command: one run of a command of the operator, bounded. Everything here blocks; a thread calls it.

Its exit is looked for and its output read some times a second, whatever it does, so that a command that says much costs little.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import NamedTuple

LOOK_S = 0.02
READ_BYTES = 65_536
OUTPUT_BYTES_MAX = 4096
OUTPUT_CHARACTERS_MAX = 300
REAP_S = 1.0
NICE = 5  # of what an operator lets run: the VMs come first
# Nothing of the daemon's: its PYTHONPATH is for its own Python, and systemd's variables are addressed to the daemon.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Failure(NamedTuple):
    """``kind``: what went wrong, in words that are the same the next time. ``detail``: the rest, for the log alone."""

    kind: str
    again: bool  # is another try worth it?
    detail: str = ""


def run(argv: list[str], text: bytes, environment: dict[str, str], timeout_s: float, ends: threading.Event) -> Failure | None:
    """Run it for at most ``timeout_s``, or until ``ends`` is set; then kill its process group. None if it succeeded.

    ``text``: what it reads on its standard input; less than a pipe holds.
    """
    output, writer = os.pipe2(os.O_CLOEXEC)
    try:
        process = _start(argv, text, environment, writer)
    except (OSError, ValueError) as error:
        os.close(output)
        return Failure(f"cannot be run ({getattr(error, 'strerror', None) or error})", again=False)
    finally:
        os.close(writer)
    os.set_blocking(output, False)
    said, end = b"", time.monotonic() + timeout_s
    try:
        _calm(process.pid)
        while not (ended := _has_ended(process)) and time.monotonic() < end and not ends.wait(LOOK_S):
            said = _more(output, said)
    finally:
        # Also what it left running. Its process is not reaped yet, so the number is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
            process.wait(REAP_S)
        said = _more(output, said)
        os.close(output)
    if not ended:
        return Failure("was ended with this daemon" if ends.is_set() else f"took longer than {timeout_s:.0f} s", again=False)
    if process.returncode:
        return Failure(f"ended with status {process.returncode}", again=True, detail=_printable(said) or "it said nothing")
    return None


def _start(argv: list[str], text: bytes, environment: dict[str, str], writer: int) -> subprocess.Popen[bytes]:
    reader, given = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(given, False)
        os.write(given, text)
    finally:
        os.close(given)
    try:
        return subprocess.Popen(
            argv, stdin=reader, stdout=writer, stderr=writer, env={**ENVIRONMENT, **environment}, cwd="/", start_new_session=True
        )
    finally:
        os.close(reader)


def _calm(pid: int) -> None:
    """The daemon runs before others and is the last to be killed for memory; its command does neither."""
    with contextlib.suppress(OSError):  # the witness's unit forbids it
        os.setpriority(os.PRIO_PGRP, pid, NICE)
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "r+", encoding="ascii") as file:
        if int(file.read()) < 0:
            file.write("0")


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _more(output: int, said: bytes) -> bytes:
    """``said`` and what has come since, of all that the end. Its children may keep the pipe open for any time."""
    try:
        return (said + os.read(output, READ_BYTES))[-OUTPUT_BYTES_MAX:]
    except BlockingIOError:
        return said


def _printable(said: bytes) -> str:
    text = said.decode(errors="replace").strip()[-OUTPUT_CHARACTERS_MAX:]
    return "".join(each if each.isprintable() else " " for each in text)
