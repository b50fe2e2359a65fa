#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt), which ansible-test wants in words
"""Status and configuration of this host's VMs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_info
short_description: Status and configuration of the protected VMs of this host
description:
  - Asks the replica and witness daemons of this host, and reads their settings.
  - Returns the configuration in the roles' own variables, so an inventory can be made from a running deployment; see the
    filter P(plover.vmft.plover_inventory#filter).
author: The Plover developers (@plover)
version_added: 0.1.0
options:
  names:
    description: The VMs; by default all whose settings this host has.
    type: list
    elements: str
  name:
    description: One VM, whose daemon must answer; RV(status) is then returned too.
    type: str
  timeout_s:
    description: How long to wait for a daemon's answer.
    type: int
    default: 10
attributes:
  check_mode:
    description: Runs in check mode; it never changes anything.
    support: full
  diff_mode:
    description: It changes nothing, so there is nothing to show.
    support: none
  platform:
    description: Where it runs.
    platforms: debian
    support: full
    details: Tested on Debian 12.
"""

EXAMPLES = r"""
- name: Which VMs are here, and what is their status?
  plover.vmft.plover_info:
  register: found

- name: What is the status of one VM?
  plover.vmft.plover_info:
    name: demo
  register: demo
"""

RETURN = r"""
vms:
  description: Status and configuration of each VM, by name.
  returned: success
  type: dict
  contains:
    status:
      description: What C(ploverctl status -o json) prints; empty if the daemon does not answer.
      type: dict
    error:
      description: Why there is no status, or empty.
      type: str
    member:
      description: This host's name among the VM's members.
      type: str
    kind:
      description: Its seat, V(replica) or V(witness).
      type: str
    pending:
      description: Changed settings that the daemon will use only after a restart.
      type: list
      elements: str
    together:
      description: Those of RV(vms.pending) that all members must share. They come into force with play C(restart_vm), which
        restarts the guest.
      type: list
      elements: str
    qemu_replaced:
      description: Whether the VM here runs on a QEMU whose program is no longer the installed one, as after an update of the package.
      type: bool
    configuration:
      description: The VM in the roles' variables. C(vm) is its entry in C(plover_vms), C(hosts) the variables of its hosts,
        C(variables) those of the whole inventory.
      type: dict
host:
  description: Variables of this host that can be read from it, like C(plover_bridge_name).
  returned: success
  type: dict
  sample: {plover_bridge_name: br0, plover_bridge_member: eno2}
status:
  description: What C(ploverctl status -o json) prints.
  returned: if O(name) is given
  type: dict
"""

import glob  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible import member, plan  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible.client import ClientError, ask  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible.fence_words import without_secrets  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible.settings import (  # noqa: E402
    bridge_of,
    hosts_of,
    variables_of,
    vm_of,
)

BRIDGE_CONF = "/etc/plover/bridge.conf"


def known_names():
    return sorted(os.path.basename(path)[: -len(".json")] for path in glob.glob(member.settings_path("*")))


def one(name, timeout_s):
    member.check_name(name)
    settings = member.settings_of_host(name)
    if settings is None:
        raise ClientError(f"{member.settings_path(name)} is missing; role vm (on a replica) or witness writes it")
    status, error, pending = member.status_of(name, timeout_s)
    try:
        configuration = {"vm": shown(vm_of(settings)), "hosts": hosts_of(settings), "variables": variables_of(settings)}
    except (KeyError, TypeError, StopIteration) as problem:
        raise ClientError(f"{member.settings_path(name)}: {problem!r}; run the deploy play to write it anew") from problem
    return {
        "status": status or {},
        "error": error,
        "member": settings["member"],
        "pending": pending,
        "together": plan.together(pending, settings, status),
        "qemu_replaced": qemu_replaced(name),
        "kind": settings["members"][settings["member"]]["kind"],
        "configuration": configuration,
    }


def qemu_replaced(name):
    """The kernel says "(deleted)" of a program whose file was replaced."""
    try:
        found = subprocess.run(
            ["systemctl", "show", "-P", "MainPID", f"plover-qemu@{name}.service"], capture_output=True, text=True, timeout=10, check=False
        )
        return os.readlink(f"/proc/{int(found.stdout)}/exe").endswith(" (deleted)")
    except (OSError, ValueError, subprocess.SubprocessError):
        return False  # none runs here


def shown(vm):
    """``vm`` without passwords on the operator's command lines: a play prints this result."""
    settings = vm.get("settings") or {}
    hidden = {key: without_secrets(settings[key]) for key in ("fence_command", "on_event_command") if settings.get(key)}
    return {**vm, "settings": {**settings, **hidden}} if hidden else vm


def host_variables():
    try:
        with open(BRIDGE_CONF, encoding="utf-8") as file:
            return bridge_of(file.read(65536))
    except (OSError, ValueError):
        return {}  # a witness has none


def main():
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str"}, "name": {"type": "str"}, "timeout_s": {"type": "int", "default": 10}},
        supports_check_mode=True,
    )
    name, names, timeout_s = (module.params[key] for key in ("name", "names", "timeout_s"))
    try:
        if names is None:
            names = known_names() if name is None else [name]
        result = {"vms": {each: one(each, timeout_s) for each in names}, "host": host_variables()}
        if name is not None:
            result["status"] = ask(name, "status", timeout_s=timeout_s)
    except ClientError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
