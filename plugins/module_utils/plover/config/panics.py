# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a VM whose guest powers itself off or panics: the settings on_poweroff and on_crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OFF, RESTART = "off", "restart"  # on_poweroff
IGNORE, KEEP, STOP = "ignore", "keep", "stop"  # on_crash, and RESTART
ON_POWEROFF = (OFF, RESTART)
ON_CRASH = (IGNORE, KEEP, RESTART, STOP)
DEVICE = "panic device (on_crash)"  # a fact that both replicas must share: whether the guest has one


def has_device(values: Mapping[str, Any]) -> bool:
    """The guest has a device by which it tells that it has panicked. Not by default: it would be new to VMs of earlier versions."""
    return bool(values["on_crash"] != IGNORE)
