# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps VMs from a newer QEMU: the shell around module_utils/_ansible/qemu_update.py."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.module_utils._ansible import qemu_update
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear

FILTERS = {"plover_qemu_update": qemu_update.problems}


class FilterModule:
    def filters(self):
        return clear(FILTERS)
