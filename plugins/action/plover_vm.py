# SPDX-License-Identifier: GPL-3.0-or-later
"""Module plover_vm, with its progress shown in the play's output."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.plugin_utils.slices import SlicedAction


class ActionModule(SlicedAction):
    pass
