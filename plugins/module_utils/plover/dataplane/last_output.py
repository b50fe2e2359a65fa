# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a stopped VM sent all its output? Sans-I/O: the shell makes QEMU's main loop turn, reads, and counts bytes.

If the socket is full, a frame waits in QEMU, and more in the card's queue. They are sent when somebody reads, even while the
VM is stopped, and each changes the queue in guest memory and the device's state (hw/net/virtio-net.c,
virtio_net_tx_complete). So a stop is over only when QEMU has nothing left to send. One read that brings nothing does not
prove that: the event loop may have emptied the full socket a moment before. So all bytes count, whoever read them.

A round is a command that QEMU's main loop answers, then a read. One answer may come from a turn of that loop that began
before our last read made room; the next may come in the turn that sends, just before it sends. So if no byte came since the
stop, two rounds without a byte are enough (QEMU tries to send everything at the stop itself); if some came, three.
"""

from __future__ import annotations

QUIET_ROUNDS, QUIET_ROUNDS_AFTER_OUTPUT = 2, 3


class LastOutput:
    def __init__(self, taken_bytes: int) -> None:
        """``taken_bytes``: all bytes of this VM's output read so far, counted before the stop."""
        self._taken_bytes = taken_bytes
        self._quiet, self._needed = 0, QUIET_ROUNDS

    def over(self, taken_bytes: int) -> bool:
        """Call it after each round with the new count. True: output no longer changes memory or devices."""
        if taken_bytes != self._taken_bytes:
            self._taken_bytes, self._quiet, self._needed = taken_bytes, 0, QUIET_ROUNDS_AFTER_OUTPUT
        else:
            self._quiet += 1
        return self._quiet >= self._needed
