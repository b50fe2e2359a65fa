# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of the replica daemon that its parts use; they do not know the daemon itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, Union

from ..config.settings import Config
from ..core.director import Director
from ..links.peers import PeerLinks
from ..native.guest_memory import GuestMemory
from ..ports import effects
from ..qemu.vm import Vm
from .observer import Observer

if TYPE_CHECKING:
    from ..rdma.rings import Rings

TapAction = Union[effects.TapUp, effects.TapEarly, effects.TapDown]  # noqa: UP007 (ansible-test takes the bars for an operator)


class Answering(Protocol):
    """The part that work on the disks of one QEMU needs."""

    config: Config

    @property
    def vm(self) -> Vm | None:
        """The present QEMU. Work on another one is over."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """An error in it ends the daemon."""

    def answer(self, event: str, *arguments: object) -> None:
        """Tell the core of an event, and carry out its effects."""


class Shell(Answering, Protocol):
    loop: asyncio.AbstractEventLoop
    core: Director
    memory: GuestMemory
    rings: Rings | None
    observer: Observer
    peer: str
    links: PeerLinks

    def at(self) -> Director:
        """The core, which knows the time now."""

    def run(self) -> None:
        """Carry out the core's effects."""
