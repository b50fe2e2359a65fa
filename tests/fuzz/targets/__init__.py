# SPDX-License-Identifier: GPL-3.0-or-later
"""All targets. One whose code is not there (a library, a part of another version) has no entry."""

from __future__ import annotations

from ..target import Target
from . import control, disks, encrypted, exporter, files, guest, inventory, libvirt, links, members, messages, monitor

MODULES = (messages, links, encrypted, members, guest, control, exporter, monitor, files, disks, inventory, libvirt)
TARGETS: dict[str, Target] = {target.name: target for module in MODULES for target in module.TARGETS}
