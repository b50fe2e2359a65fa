#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Protect a VM on this host, or stop doing so."""
from __future__ import annotations

DOCUMENTATION = r"""
module: plover_vm
short_description: Start or stop this host's part in the protection of a VM
description:
  - Enables and starts the daemon of this host's seat (replica or witness), or stops and disables it.
  - The settings file C(/etc/plover/NAME.json) must be there.
author: The Plover developers (@plover)
version_added: 0.1.0
options:
  name:
    description: Name of the VM.
    type: str
    required: true
  state:
    description: Whether this host takes part. V(unprotected) on a replica also ends its copy of the VM.
    type: str
    choices: [protected, unprotected]
    default: protected
  wait:
    description: Wait until the VM is protected. Use it once all three members are started.
    type: bool
    default: false
  timeout_s:
    description: How long to wait.
    type: int
    default: 120
attributes:
  check_mode:
    description: Says what it would do.
    support: full
  diff_mode:
    description: Shows the unit's state before and after.
    support: full
"""

EXAMPLES = r"""
- name: Take part
  plover.vmft.plover_vm:
    name: demo

- name: Wait until nothing can be lost any more
  plover.vmft.plover_vm:
    name: demo
    wait: true
    timeout_s: 180
"""

RETURN = r"""
actions:
  description: What was done, one sentence each.
  returned: success
  type: list
  elements: str
status:
  description: Status of the VM, if it was waited for.
  returned: when O(wait) is true
  type: dict
"""

import json  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils.plover_client import (  # noqa: E402
    ClientError,
    wait_for_service,
)


def seat(module, name):
    path = f"/etc/plover/{name}.json"
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
        return settings["members"][settings["member"]]["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if module.check_mode and isinstance(error, FileNotFoundError):
            return "replica-or-witness"  # the play would have written it
        return module.fail_json(msg=f"{path}: {error!r}; role vm writes it")


def unit_state(module, unit):
    active, enabled = (module.run_command(["systemctl", verb, unit])[1].strip() for verb in ("is-active", "is-enabled"))
    return {"active": active in ("active", "activating", "reloading"), "enabled": enabled == "enabled"}


def plan(unit, before, protect):
    """(sentence, systemctl words) of each step from ``before`` to what is wanted."""
    if protect:
        return [(text % unit, words) for text, words, wanted in (
            ("enabled %s", ["enable", unit], not before["enabled"]),
            ("started %s", ["start", unit], not before["active"])) if wanted]
    steps = [(f"stopped {unit}", ["stop", unit])] if before["active"] else []
    if before["enabled"]:
        steps.append((f"disabled {unit}", ["disable", unit]))
    if steps and "replica" in unit:
        guest = unit.replace("replica", "qemu")
        steps.append((f"ended {guest}", ["stop", guest]))
    return steps


def main():
    module = AnsibleModule(argument_spec={
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["protected", "unprotected"], "default": "protected"},
        "wait": {"type": "bool", "default": False},
        "timeout_s": {"type": "int", "default": 120}}, supports_check_mode=True)
    name, protect = module.params["name"], module.params["state"] == "protected"
    unit = f"plover-{seat(module, name)}@{name}.service"
    before = unit_state(module, unit)
    steps = plan(unit, before, protect)
    if not module.check_mode:
        for text, words in steps:
            code, out, err = module.run_command(["systemctl", *words])
            if code:
                module.fail_json(msg=f"{text} failed: {(err or out).strip()}; see 'journalctl -u {unit}'")
    result = {"changed": bool(steps), "actions": [text for text, _words in steps],
              "diff": {"before": before, "after": {"active": protect, "enabled": protect}}}
    if module.params["wait"] and protect and not module.check_mode:
        try:
            result["status"] = wait_for_service(name, "protected", module.params["timeout_s"])
        except ClientError as error:
            module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
