# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's hook for tests and benchmarks: they see its actions, and change none."""

from __future__ import annotations


class Observer:
    """Does nothing. Derive from it and set ``Replica.observer``."""

    def action(self, action: object) -> None:
        """The core wants this; it is carried out next."""

    def event(self, name: str, arguments: tuple[object, ...]) -> None:
        """The answer to an action; the core gets it next."""

    def announcing(self) -> None:
        """The TAP is up. The network is told where the VM is as soon as it may speak."""
