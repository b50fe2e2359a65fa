# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter of the external fence agent, a command of the operator. Exit status 0 means: that host is off."""

from __future__ import annotations

import asyncio
import os
import signal

OUTPUT_BYTES_MAX = 4096


def words(command: list[str], host: str, address: str) -> list[str]:
    """The command with {host} and {address} filled in; nothing else is interpreted, and no shell is involved."""
    return [word.replace("{host}", host).replace("{address}", address) for word in command]


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


async def fence(argv: list[str], timeout_s: float) -> str | None:
    """Run it for at most ``timeout_s``, then kill its process group. None if it succeeded, otherwise why not."""
    tail = _Tail()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=tail.writer, stderr=tail.writer, start_new_session=True
        )
    except OSError as error:
        os.close(tail.writer)
        tail.close()
        return f"fence_command: {argv[0]}: {error.strerror}"
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
        said = tail.close()
    if late:
        await process.wait()
        return f"fence_command: {argv[0]} took longer than {1000 * timeout_s:.0f} ms (fence_timeout_ms)"
    if process.returncode:
        return f"fence_command: {argv[0]} ended with status {process.returncode}: {said or 'and said nothing'}"
    return None
