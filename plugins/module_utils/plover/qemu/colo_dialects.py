# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialects of QEMU's COLO loop, and which one a QEMU speaks. It is asked: the loop is no ABI, and distributions patch.

``ENABLED``  up to QEMU 10: the stream has a command that makes the loading side enter the loop; the machine is reset by us.
``RETURN``   from QEMU 11 on: the stream opens a return path; QEMU closes that path before it enters the loop, and resets the
             machine itself before each load (QEMU migration/colo.c, migration/savevm.c).
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import QemuError
from .qmp import Qmp

X_COLO = "x-colo"
RETURN_PATH = "return-path"


class Dialect(NamedTuple):
    """``command``: in the stream, before its first section. ``greeting``: QEMU's bytes before its first message. ``resets``: QEMU
    resets the machine before each load."""

    name: str
    command: bytes
    greeting: bytes = b""
    resets: bool = False


ENABLED = Dialect("enable-colo", bytes.fromhex("0800080000"))  # QEMU_VM_COMMAND, MIG_CMD_ENABLE_COLO, no data
RETURN = Dialect(
    "return-path",
    bytes.fromhex("0800010000"),  # QEMU_VM_COMMAND, MIG_CMD_OPEN_RETURN_PATH, no data
    bytes.fromhex("0001000400000000"),  # MIG_RP_MSG_SHUT, 4 bytes of data: no error
    resets=True,
)


async def choose(qmp: Qmp) -> Dialect:
    """Prepare a waiting QEMU for the loop. Returns the dialect it speaks. Raises QemuError, also if it has no COLO."""
    try:
        await qmp.capabilities(x_colo=True, x_ignore_shared=True)
        return ENABLED
    except QemuError as error:
        if RETURN_PATH in str(error):
            await qmp.capabilities(x_colo=True, x_ignore_shared=True, return_path=True)
            return RETURN
        if X_COLO in str(error) or "COLO" in str(error):
            raise QemuError(
                "qemu_binary: this QEMU was built without COLO (--disable-replication, as on RHEL), so it cannot hold the second copy "
                f"of a VM; use a distribution's QEMU that has it, such as Debian's or Ubuntu's ({error})"
            ) from error
        raise
