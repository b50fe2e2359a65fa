# SPDX-License-Identifier: GPL-3.0-or-later
"""The TAP of one network card of a VM, owned by the replica daemon: without the daemon, no frame gets in or out."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

from ..config.nics import setting
from ..core import shell_policy as policy
from ..errors import NetworkError
from ..protocol.frames import LENGTH, split, wrap
from . import programs

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SCRIPT_TIMEOUT_S = 5.0
BATCH_FRAMES_MAX = 64
STALE_FRAMES_MAX = 4096  # a TAP keeps 1000, and takes none while it is down


class Tap:
    def __init__(self, name: str, bridge: str, ifup: str, ifdown: str, now: Callable[[], float], card: int = 0) -> None:
        """Create the TAP of the VM's card of that number, down. ``now``: the clock of :meth:`write`. Raises NetworkError, also if
        there is no such bridge."""
        self.name, self.bridge, self._ifup, self._ifdown, self._now, self._card = name, bridge, ifup, ifdown, now, card
        self.dropped = self.stale = 0  # frames: that the TAP did not take; that waited in it from before it was down
        if not Path(f"/sys/class/net/{bridge}/bridge").exists():
            raise NetworkError(
                f"{setting(card, 'bridge')}: {bridge} is no bridge of this host; create it (role 'bridge') or name another one"
            )
        for key, script in (("network_ifup", ifup), ("network_ifdown", ifdown)):
            if not os.access(script, os.X_OK):
                raise NetworkError(f"{key}: {script} is missing or not executable; role 'qemu' installs it")
        try:
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NetworkError(f"/dev/net/tun: {error.strerror}; load the module 'tun'") from error
        try:
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        except OSError as error:
            os.close(self.fd)
            raise NetworkError(f"{setting(card, 'tap')}: cannot create {name}: {error.strerror}; is the name in use?") from error

    async def up(self) -> None:
        self._drop_stale()
        await self._script(self._ifup, "network_ifup")

    async def down(self) -> None:
        await self._script(self._ifdown, "network_ifdown")

    async def _script(self, script: str, key: str) -> None:
        process = await asyncio.create_subprocess_exec(
            script,
            self.name,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PLOVER_BRIDGE": self.bridge},
        )  # a host may have several
        try:
            out, _err = await programs.ended(process, SCRIPT_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise NetworkError(f"{key}: {script} {self.name} took longer than {SCRIPT_TIMEOUT_S} s") from None
        if process.returncode:
            raise NetworkError(f"{key}: {script} {self.name} failed: {out.decode(errors='replace').strip()[:500]}")

    def _drop_stale(self) -> None:
        """Frames outlive a TAP that goes down. They were meant for a leader, maybe a VM, that is no more."""
        for _frame in range(STALE_FRAMES_MAX):
            try:
                os.read(self.fd, 65_536)
            except OSError:
                return
            self.stale += 1

    def read_batch(self, frames_max: int = BATCH_FRAMES_MAX) -> bytes:
        """Frames waiting in the TAP, wrapped for QEMU; empty if none."""
        out: list[bytes] = []
        for _frame in range(frames_max):
            try:
                out.append(wrap(os.read(self.fd, 65_536), self._card))
            except (BlockingIOError, OSError):
                break
        return b"".join(out)

    def write(self, run: bytes, until: float) -> bytes:
        """Send a run of wrapped frames. Frames that the TAP cannot take are dropped, as on any wire.

        Returns the frames that are still here after ``until``: if this daemon was suspended between its decision and this line,
        another member may lead by now.
        """
        sent_bytes = 0
        for frame in split(run):
            if not policy.in_time(self._now(), until):
                return run[sent_bytes:]
            try:
                os.write(self.fd, frame)
            except OSError:
                self.dropped += 1
            sent_bytes += LENGTH.size + len(frame)
        return b""

    def close(self) -> None:
        os.close(self.fd)
