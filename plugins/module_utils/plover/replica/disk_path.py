# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way the disks' bytes take between both replicas: streams over the members' port, or, beside a replica of an earlier
version, ``disk_port``. In both cases our QEMU has UNIX sockets only. On the secondary it opens the images for one copy."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..disks import sockets
from ..disks.copy_gate import CopyGate
from ..errors import QemuError
from ..host import qemu_user
from ..links import old_port
from ..links.relay import End
from ..links.streams import Export, Streams
from ..protocol import wire
from ..qemu.vm import Vm
from .shell import Shell

log = logging.getLogger("plover")


class DiskPath:
    def __init__(self, shell: Shell) -> None:
        self._shell, self._config = shell, shell.config
        self.streams = Streams(shell.links, shell.spawn, self._export, len(shell.config.disk_list))
        self._waiting: tuple[Vm, CopyGate] | None = None
        self._port: old_port.OldPort | None = None  # the leader is of an earlier version

    # ---- the leader -------------------------------------------------------------------------------------------
    async def begin(self, vm: Vm, name: str) -> dict[str, Any]:
        """The secondary takes our writes for the copy ``name`` at the address returned, which is for ``vm``. Raises QemuError."""
        peer, path = self._shell.peer, sockets.stream_socket(self._config)
        carries = self._shell.links.has_channel(peer, wire.DISKS)
        if carries is None:
            raise QemuError(f"there is no link to {peer}")
        if carries:
            await self.streams.offer(peer, name, path, vm.pid, lambda path: qemu_user.let_in(path, vm.pid))
        else:
            log.warning("disks: %s is of an earlier version, so its disks are written by its disk_port, which asks for no proof", peer)
            there = self._config.members[peer]["address"], self._config.disk_port
            await old_port.knock(*there, name)
            await self.streams.hand_out(lambda: old_port.dial(*there), path, vm.pid, lambda path: qemu_user.let_in(path, vm.pid))
        return {"type": "unix", "path": str(path)}

    def cut(self) -> None:
        """The secondary gets no more writes. Bytes that are under way are lost."""
        self.streams.close()

    # ---- the secondary ----------------------------------------------------------------------------------------
    async def wait(self, vm: Vm, ready: Callable[[dict[str, object]], Awaitable[None]]) -> None:
        """``vm`` is empty and waits for the copy that its images' new name stands for. ``ready(address)``: mark them, and have QEMU
        export them there."""
        self.close()
        gate = CopyGate(vm.images.name, lambda: self._ready(vm, ready))
        self._waiting = vm, gate
        await self._follow_peer(gate)

    async def _ready(self, vm: Vm, ready: Callable[[dict[str, object]], Awaitable[None]]) -> None:
        await vm.qmp.give_listener(sockets.LISTENER, sockets.export_socket(self._config))
        await ready(sockets.OF_IMAGES)

    def linked(self) -> None:
        """The other replica has linked, perhaps with another version than before."""
        if self._waiting:
            self._shell.spawn(self._follow_later(self._waiting[1]))

    async def _follow_later(self, gate: CopyGate) -> None:
        try:
            await self._follow_peer(gate)
        except QemuError as error:
            log.error("%s", error)

    async def _follow_peer(self, gate: CopyGate) -> None:
        if gate.begun or self._waiting is None or self._waiting[1] is not gate:
            return
        old = self._shell.links.has_channel(self._shell.peer, wire.DISKS) is False
        if self._port and not old:
            self._close_port()
        elif old and not self._port:
            self._port = old_port.OldPort(gate, self._carry, self._shell.spawn)
            log.warning(
                "disks: %s is of an earlier version, so disk_port %d is open here, which asks for no proof, until it is upgraded",
                self._shell.peer,
                self._config.disk_port,
            )
            await self._port.open(self._config.members[self._config.member]["address"], self._config.disk_port)

    async def _export(self, name: str) -> Export:
        if self._waiting is None or self._shell.core.leading:
            raise QemuError("this host waits for no copy")
        vm, gate = self._waiting
        await gate.take(name)
        return self._images(vm)

    async def _carry(self, end: End) -> None:
        """A connection at disk_port, once the images are ready."""
        if self._waiting is None:
            end.abort()
        else:
            await self.streams.carry(f"{self._shell.peer} (disk_port)", end, self._images(self._waiting[0]))

    def _images(self, vm: Vm) -> Export:
        return Export(sockets.export_socket(self._config), vm.pid)

    def _close_port(self) -> None:
        if self._port:
            self._port.close()
            self._port = None

    def close(self) -> None:
        """QEMU is gone, or takes no more writes from outside."""
        if self._waiting:
            self._waiting[1].close()
            self._waiting = None
        self._close_port()
        self.streams.close()
