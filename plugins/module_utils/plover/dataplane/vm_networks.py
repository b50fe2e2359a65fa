# SPDX-License-Identifier: GPL-3.0-or-later
"""All network cards of one VM: a socket of QEMU for each, and one run of frames in and out."""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.frames import by_card, marked
from .vm_network import VmNetwork


class VmNetworks:
    def __init__(
        self,
        cards: int,
        on_output: Callable[[bytes], None],
        on_broken: Callable[[str], None],
        before: VmNetworks | None = None,
    ) -> None:
        """Arguments as of :class:`VmNetwork`; ``before``: those of the same VM before its connections broke."""
        self.each: list[VmNetwork]
        self._strange_bytes: int
        dropped = [each.dropped_bytes for each in before.each] if before else [0] * cards
        self._on_broken, self._told = on_broken, False
        self._strange_bytes = before._strange_bytes if before else 0  # for cards that the VM does not have
        self.each = [VmNetwork(on_output, self._broke, dropped[card], card) for card in range(cards)]

    async def connect(self, paths: list[str]) -> None:
        for network, path in zip(self.each, paths, strict=True):
            await network.connect(path)

    def close(self) -> None:
        for network in self.each:
            network.close()

    def _broke(self, why: str) -> None:
        """One that is out of step is enough: a VM with a dead card is not the VM that its clients know."""
        if not self._told:
            self._told = True
            self._on_broken(why)

    @property
    def broken(self) -> str:
        """The reason; empty: all work."""
        return next((network.broken for network in self.each if network.broken), "")

    def fileno(self) -> int:
        """The first card's."""
        return self.each[0].fileno()

    # ---- the VM's output --------------------------------------------------------------------------
    @property
    def taken_bytes(self) -> int:
        return sum(network.taken_bytes for network in self.each)

    def read(self) -> None:
        for network in self.each:
            network.read()

    def end_with_whole_frames(self) -> None:
        """The VM has been stopped, and all its output taken. A half frame would be followed by another one's begin."""
        for network in self.each:
            if network.half_frame_bytes:
                network.give_up(
                    f"QEMU stopped its VM after {network.half_frame_bytes} bytes of a frame and threw the "
                    "rest away: its network socket is out of step"
                )

    # ---- its input ----------------------------------------------------------------------------------
    @property
    def dropped_bytes(self) -> int:
        return self._strange_bytes + sum(network.dropped_bytes for network in self.each)

    @property
    def has_backlog(self) -> bool:
        return any(network.has_backlog for network in self.each)

    @property
    def unread(self) -> bool:
        """QEMU has not read all input of the cards but the first, which is watched by :class:`~..native.idle.IdleMonitor`."""
        return any(network.unread for network in self.each[1:])

    def inject(self, payload: bytes) -> None:
        """Feed a run of frames to their cards; never blocks."""
        if len(self.each) == 1:
            self.each[0].inject(payload)
            return
        for card, run in by_card(payload):
            if card < len(self.each):
                self.each[card].inject(marked(run, 0) if card else run)
            else:
                self._strange_bytes += len(run)
