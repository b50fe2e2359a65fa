# SPDX-License-Identifier: GPL-3.0-or-later
"""The device by which a guest tells that it has panicked: pvpanic on the ISA bus, which Linux and Windows have drivers for.

QEMU must not stop the VM then: core/crash.py decides.
"""

from __future__ import annotations

from ..config import panics
from ..config.settings import Config
from ..disks.monitor import Monitor
from ..errors import QemuError

NAME = "panic"


def arguments(config: Config) -> list[str]:
    return ["-device", f"pvpanic,id={NAME}", "-action", "panic=none"] if panics.has_device(config.values) else []


async def is_there(qmp: Monitor) -> bool:
    """Of a running QEMU: settings may have changed since it started."""
    try:
        await qmp.execute("qom-get", path=f"/machine/peripheral/{NAME}", property="type")
    except QemuError:
        return False
    return True
