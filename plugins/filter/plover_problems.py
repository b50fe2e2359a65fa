# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an inventory: the shell around module_utils/_ansible/layout/inventory.py."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleError
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import inventory
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.variables import Unresolved
from ansible_collections.plover.vmft.plugins.module_utils.plover.config.image_kinds import HEAD_BYTES
from jinja2.exceptions import UndefinedError

TEMPLATE_ERRORS = (AnsibleError, UndefinedError)
CONNECTION = ("ansible_host", "ansible_port", "ansible_connection", "ansible_user", "remote_user")


def plain(value):
    """``value`` without Ansible's own types, so that messages show it plainly."""
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def variables_of(values):
    """A host's plover_* variables, and those that say how to reach it."""
    out = {}
    for name in [plain(name) for name in values if name.startswith("plover_") or name in CONNECTION]:
        try:
            out[name] = plain(values[name])
        except TEMPLATE_ERRORS as error:
            out[name] = Unresolved(str(error).splitlines()[0])
    return out


class Start(bytes):
    """The first bytes of a file, its last ones, and its length."""

    tail = b""
    file_bytes = 0


def head(path):
    """The first bytes of a file on this machine, with its last ones; None if it is no file or cannot be read."""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            start = Start(file.read(HEAD_BYTES))
            start.file_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(start.file_bytes - HEAD_BYTES, 0))
            start.tail = file.read(HEAD_BYTES)
            return start
    except (OSError, ValueError):
        return None


def plover_problems(vms, hostvars, groups):
    hosts = {plain(name): variables_of(hostvars[name]) for name in groups.get("all", ()) if name in hostvars}
    try:
        given = plain(vms)
    except TEMPLATE_ERRORS as error:
        return [f"plover_vms: its template fails: {str(error).splitlines()[0]}; correct it"]
    return inventory.problems(given, hosts, plain(groups), head)


class FilterModule:
    def filters(self):
        return {"plover_problems": plover_problems}
