# SPDX-License-Identifier: GPL-3.0-or-later
"""Backs up and restores the configuration of a deployment."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.plugin_utils.backup import backup_of, inventory_from
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear

FILTERS = {"plover_backup": backup_of, "plover_restore": inventory_from}


class FilterModule:
    def filters(self):
        return clear(FILTERS)
