# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter of the external fence agent, a command of the operator. Exit status 0 means: that host is off.

Every user of a host sees command lines. So passwords are in a file of root, which the agent reads on its standard input, as the
distribution's agents do (lines ``passwd=...``). They are taken out of what it says before that is logged or shown.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
from pathlib import Path

from ..errors import ConfigError

OUTPUT_BYTES_MAX = 4096
INPUT_BYTES_MAX = 8192  # with every host's name filled in; less than a pipe holds
HIDDEN = "********"
_SECRET = re.compile(r"(?im)^[^=\n]*(?:pass|pwd|secret|token|key)[^=\n]*=[ \t]*(\S[^\n]*)$")


def words(command: list[str], host: str, address: str) -> list[str]:
    """The command with {host} and {address} filled in; nothing else is interpreted, and no shell is involved."""
    return [word.replace("{host}", host).replace("{address}", address) for word in command]


def read_input(path: Path, required: bool) -> str:
    """What the agent gets; empty if there is no file and none is ``required``. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigError(f"fence_input_file: {path} is readable by others than its owner; run 'chmod 600 {path}'")
            text = file.read(INPUT_BYTES_MAX // 2 + 1)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"fence_input_file: {path} is missing; make it, or remove the setting") from None
        return ""
    except OSError as error:
        raise ConfigError(f"fence_input_file: {path} cannot be read ({error.strerror}); run the deploy play") from error
    if len(text) > INPUT_BYTES_MAX // 2:
        raise ConfigError(f"fence_input_file: {path} is over {INPUT_BYTES_MAX // 2} bytes; make it shorter")
    return text.decode("utf-8", "replace")


def _pipe_with(text: str) -> int:
    """A descriptor to read ``text`` from. It is written at once: a pipe holds 64 KiB."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writer, text.encode()[:INPUT_BYTES_MAX])
    finally:
        os.close(writer)
    return reader


def without_secrets(said: str, given: str) -> str:
    for secret in sorted((match[1].strip() for match in _SECRET.finditer(given)), key=len, reverse=True):
        said = said.replace(secret, HIDDEN)
    return said


class _Tail:
    """The last output of a process. Its children may keep the pipe open for any time."""

    def __init__(self) -> None:
        self._fd, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.writer, True)
        self._said = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            while data := os.read(self._fd, 65_536):
                self._said = (self._said + data)[-OUTPUT_BYTES_MAX:]
            self._loop.remove_reader(self._fd)
        except BlockingIOError:
            return

    def close(self) -> str:
        self._read()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        return self._said.decode(errors="replace").strip()[-500:]


async def fence(argv: list[str], timeout_s: float, given: str = "") -> str | None:
    """Run it for at most ``timeout_s``, then kill its process group. None if it succeeded, otherwise why not.

    ``given``: what it reads on its standard input.
    """
    tail, reader = _Tail(), _pipe_with(given)
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=reader, stdout=tail.writer, stderr=tail.writer, start_new_session=True)
    except OSError as error:
        os.close(tail.writer)
        tail.close()
        return f"fence_command: {argv[0]}: {error.strerror}"
    finally:
        os.close(reader)
    os.close(tail.writer)
    late = False
    try:
        await asyncio.wait_for(process.wait(), timeout_s)
    except asyncio.TimeoutError:
        late = True
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # no process of its group is left
        said = without_secrets(tail.close(), given)
    if late:
        await process.wait()
        return f"fence_command: {argv[0]} took longer than {1000 * timeout_s:.0f} ms (fence_timeout_ms)"
    if process.returncode:
        return f"fence_command: {argv[0]} ended with status {process.returncode}: {said or 'and said nothing'}"
    return None
