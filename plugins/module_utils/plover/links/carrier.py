# SPDX-License-Identifier: GPL-3.0-or-later
"""What carries the messages of a data channel in place of TCP, as a link sees it."""

from __future__ import annotations

from typing import Protocol

from ..protocol.pages import PageRun


class Carrier(Protocol):
    """rdma/stream.py has one. TCP sets it up."""

    address: bytes

    @property
    def writable(self) -> bool: ...

    def connect(self, address: bytes) -> None: ...

    def send(self, buffers: list[bytes | PageRun]) -> None: ...

    def close(self) -> None: ...
