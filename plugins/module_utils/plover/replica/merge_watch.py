# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon watches the merge of disks after a failover until it is over; overlays must not fill memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..errors import LostWritesError, QemuError
from ..qemu.vm import Vm
from .shell import Answering

log = logging.getLogger("plover")
LOOK_S = 0.1
SLOW_BYTES_PER_S = 1 << 20  # of each disk, once the overlays have taken three quarters of their room


class MergeWatch:
    def __init__(
        self, shell: Answering, over: Callable[[Vm], Awaitable[None]], lost: Callable[[Vm, LostWritesError], Awaitable[None]]
    ) -> None:
        """``over``: called before the core learns of the end; ``lost``: called if the merge has lost a write."""
        self._shell, self._over, self._lost = shell, over, lost
        self._told = False  # the core knows that the merge failed, and has not asked for another try
        self._slow = False

    def begin(self, vm: Vm) -> None:
        """``vm`` was promoted, or may have been by the daemon before this one."""
        self._told = self._slow = False
        self._shell.spawn(self._watch(vm))

    async def again(self, vm: Vm) -> None:
        """An operation of QEMU's queue, as the VM is stopped for a moment."""
        try:
            await vm.block.merge.again()
        except QemuError as error:
            self._tell(str(error))
        else:
            self._told = False

    async def _watch(self, vm: Vm) -> None:
        while vm is self._shell.vm:
            try:
                if await self._look(vm):
                    return
            except LostWritesError as error:
                return await self._lost(vm, error)
            except (QemuError, OSError) as error:  # QEMU ends (noticed elsewhere), or QEMU or our disk hangs
                log.warning("the merge of the disks cannot be looked at: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _look(self, vm: Vm) -> bool:
        """Is it over?"""
        now = await vm.block.merge.look()
        if vm is not self._shell.vm:
            return True
        if now.over:
            await vm.block.merge.limit_writes(0)
            await self._over(vm)
            if vm is self._shell.vm:
                self._shell.answer("disks_merged")
            return True
        if now.error and not self._told:
            self._tell(now.error)
        most = self._shell.config.disk_overlay_mib * 3 << 18
        if not self._slow and vm.block.merge.used_bytes() > most:
            self._slow = True
            log.warning(
                "disks: the overlays take three quarters of disk_overlay_mib (%d); until they are merged, the guest "
                "writes %d KiB/s at most",
                self._shell.config.disk_overlay_mib,
                SLOW_BYTES_PER_S >> 10,
            )
            await vm.block.merge.limit_writes(SLOW_BYTES_PER_S)
        return False

    def _tell(self, error: str) -> None:
        self._told = True
        self._shell.answer("disks_unmerged", error)
