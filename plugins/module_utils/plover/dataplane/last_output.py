# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the output of a stopped VM over? Sans-I/O: the shell asks QEMU's main loop to go round, reads, and counts.

A full socket leaves a frame waiting in QEMU, and behind it more in the card's queue. They go out as somebody reads, stopped
VM or not, and each changes the queue in guest memory and the device's state (hw/net/virtio-net.c, virtio_net_tx_complete).
So a stop is over only when QEMU has nothing left to send. What one read brings says nothing about that: the event loop may
have emptied the full socket a moment before. So all bytes count, whoever read them.

A round is a command that QEMU's main loop answers, then a read. One answer may come from a turn of that loop that began
before our last read made room; the next one may come in the turn that sends, just before it does. So two rounds without
a byte are enough if none came since the stop (QEMU tries to send all at the stop itself); three, once some did.
"""

from __future__ import annotations

QUIET_ROUNDS, QUIET_ROUNDS_AFTER_OUTPUT = 2, 3


class LastOutput:
    def __init__(self, taken_bytes: int) -> None:
        """``taken_bytes``: all that was read of this VM's output so far, counted before the stop."""
        self._taken_bytes = taken_bytes
        self._quiet, self._needed = 0, QUIET_ROUNDS

    def over(self, taken_bytes: int) -> bool:
        """After each round, with the new count. True: nothing changes memory or devices any more."""
        if taken_bytes != self._taken_bytes:
            self._taken_bytes, self._quiet, self._needed = taken_bytes, 0, QUIET_ROUNDS_AFTER_OUTPUT
        else:
            self._quiet += 1
        return self._quiet >= self._needed
