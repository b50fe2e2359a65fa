#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt), which ansible-test wants in words
"""Tries whether other members are reached at their ports."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_reach
short_description: Try whether other members are reached at their ports
description:
  - Connects to each address and port, all at once, and sends nothing. It changes nothing.
  - A port at which nobody listens yet is reached if its host refuses the connection itself.
  - A packet filter that refuses connections as the host would (C(reject) with a TCP reset or a port unreachable) is not seen.
author: The Plover developers (@plover)
version_added: 1.0.0
options:
  ways:
    description: Where to connect, as filter P(plover.vmft.plover_ways#filter) makes it.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: Name of the host there.
        type: str
        required: true
      address:
        description: Its IPv4 address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
      vms:
        description: The VMs whose members need it.
        type: list
        elements: str
        required: true
  timeout_s:
    description: How long an answer may take.
    type: float
    default: 3.0
attributes:
  check_mode:
    description: Runs in check mode; it never changes anything.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
  platform:
    description: Linux.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Try the way to each other member
  plover.vmft.plover_reach:
    ways: "{{ plover_vms | plover.vmft.plover_ways(inventory_hostname, hostvars, ansible_play_hosts) }}"
"""

RETURN = r"""
answers:
  description: "By C(address:port), C(open), C(refused) (the host answers, nobody listens yet), or why nobody answers."
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible.reach import answers, problems  # noqa: E402

WAY = {
    "host": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "vms": {"type": "list", "elements": "str", "required": True},
}


def main():
    module = AnsibleModule(
        argument_spec={
            "ways": {"type": "list", "elements": "dict", "required": True, "options": WAY},
            "timeout_s": {"type": "float", "default": 3.0},
        },
        supports_check_mode=True,
    )
    found = answers(module.params["ways"], module.params["timeout_s"])
    lines = problems(module.params["ways"], found)
    if lines:
        module.fail_json(msg="\n".join(lines), answers=found)
    module.exit_json(changed=False, answers=found)


if __name__ == "__main__":
    main()
