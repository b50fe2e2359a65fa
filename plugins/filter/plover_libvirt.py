# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt domain as an entry of plover_vms: the shell around module_utils/plover/libvirt."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.module_utils.plover.errors import ConfigError
from ansible_collections.plover.vmft.plugins.module_utils.plover.libvirt.entry import imported
from ansible_collections.plover.vmft.plugins.module_utils.plover.libvirt.notes import Wishes
from ansible_collections.plover.vmft.plugins.module_utils.plover.libvirt.text import data_of, yaml_of
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear


def plover_libvirt(xml, name="", primary="", secondary="", witness="", bridge="", machine=""):
    if not isinstance(xml, str):
        raise ValueError("needs a domain's XML as a text; give the output of 'virsh dumpxml NAME'")
    wishes = Wishes(name, primary, secondary, witness, bridge, machine)
    wrong = [key for key, value in wishes._asdict().items() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} must be a text")
    try:
        found = imported(xml.encode("utf-8", "replace"), wishes)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return {**data_of(found), "yaml": yaml_of(found)}


class FilterModule:
    def filters(self):
        return clear({"plover_libvirt": plover_libvirt})
