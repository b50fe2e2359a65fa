# SPDX-License-Identifier: GPL-3.0-or-later
"""The user of a VM's QEMU: the shell around the runtime's rule."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.module_utils.plover.host.qemu_user import default_name
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear


class FilterModule:
    def filters(self):
        return clear({"plover_qemu_user": default_name})
