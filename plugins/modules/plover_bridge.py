#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a card into a bridge through the host's own network manager. The host undoes the change unless it is confirmed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_bridge
short_description: Put a card into a bridge, or take it out
description:
  - Plans how the host's own network manager makes the bridge and moves the addresses and routes of the card to it, and starts
    that change. The card may be the one that Ansible's own connection uses.
  - The host undoes the change by itself after O(undo_after_s), unless C(plover-bridge confirm NAME) is run on it before.
    Do that over a new connection, as role P(plover.vmft.bridge#role) does, which also installs the script.
author: The Plover developers (@plover)
version_added: 0.2.0
options:
  name:
    description: Name of the bridge.
    type: str
    required: true
  member:
    description: The card. Without one the bridge must exist already, and nothing is done to it.
    type: str
    default: ""
  state:
    description: V(absent) gives the card its settings back, and removes the bridge if this module made it.
    type: str
    choices: [present, absent]
    default: present
  manager:
    description:
      - What makes the bridge, now and at each boot. V(auto) is the first of the others that manages the card.
      - V(plover) is a systemd unit of Plover's, for a card that no network manager manages.
    type: str
    choices: [auto, netplan, networkmanager, networkd, ifupdown, plover]
    default: auto
  undo_after_s:
    description: Seconds until the host undoes a change that was not confirmed.
    type: int
    default: 60
attributes:
  check_mode:
    description: Reports what would be done and changes nothing.
    support: full
  diff_mode:
    description: Shows the manager's files.
    support: full
"""

EXAMPLES = r"""
- name: Put the card into the bridge
  plover.vmft.plover_bridge:
    name: br0
    member: eth1
  register: change
  check_mode: true # role plover.vmft.bridge also confirms the change
"""

RETURN = r"""
actions:
  description: What the change does, one sentence each.
  returned: success
  type: list
  elements: str
manager:
  description: What makes the bridge; empty if there is nothing to do.
  returned: success
  type: str
pending:
  description: Whether a change has begun and must be confirmed.
  returned: success
  type: bool
"""

import re  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible.bridging import armed, host, model, plans  # noqa: E402


def actions(facts, plan, joined):
    source, target = (facts.member, facts.bridge) if joined else (facts.bridge, facts.member)
    said = [
        "{} {} {} by {}".format(
            *(("put", facts.member, "into " + facts.bridge) if joined else ("took", facts.member, "out of " + facts.bridge)), plan.manager
        )
    ]
    said += ["moved {}/{} from {} to {}".format(a["local"], a["prefixlen"], source, target) for a in facts.addresses.get(source, [])]
    return said + ["{} {}".format("removed" if text is None else "wrote", path) for path, text in sorted(plan.files.items())]


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "member": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "manager": {"type": "str", "choices": ["auto", *plans.NAMES], "default": "auto"},
            "undo_after_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    name, member, joined = module.params["name"], module.params["member"], module.params["state"] == "present"
    for key, value in (("plover_bridge_name", name), ("plover_bridge_member", member or "none")):
        if not re.match(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$", value):
            module.fail_json(msg=f"{key}: {value!r} is no name of an interface: 1 to 15 letters, digits and ._-")
    if not 10 <= module.params["undo_after_s"] <= 600:
        module.fail_json(msg="plover_bridge_rollback_s: {} must be 10 to 600".format(module.params["undo_after_s"]))
    try:
        made = armed.noted(name, "made")
        facts = host.look(name, member or made.get("member", ""), made)
        plan = plans.join(facts, module.params["manager"]) if joined else plans.leave(facts)
        if plan is None:
            module.exit_json(changed=False, actions=[], manager="", pending=False)
        diff = [
            {"before_header": path, "after_header": path, "before": host.read(path) or "", "after": text or ""}
            for path, text in sorted(plan.files.items())
        ]
        if not module.check_mode:
            armed.begin(facts, plan, joined, module.params["undo_after_s"])
        module.exit_json(changed=True, actions=actions(facts, plan, joined), manager=plan.manager, diff=diff, pending=not module.check_mode)
    except (model.Refusal, host.HostError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
