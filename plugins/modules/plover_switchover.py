#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt), which ansible-test wants in words
"""Let another replica of a VM lead."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_switchover
short_description: Let another replica of a protected VM lead
description:
  - On the leader, waits until the VM is protected, lets the other replica take over, and waits until the VM serves there.
  - On another host it only waits for that outcome. So it can run on all members at once, if O(to) is given.
  - Clients keep their connections.
version_added: 0.2.0
extends_documentation_fragment: plover.vmft.member
options:
  to:
    description: The replica that is to lead, by its name in the inventory. By default the one that does not lead now; then
      the module must run on the leader only.
    type: str
    default: ""
seealso:
  - module: plover.vmft.plover_replica
"""

EXAMPLES = r"""
- name: Let the primary lead, wherever the VM runs now
  plover.vmft.plover_switchover:
    name: demo
    to: primary
"""

RETURN = r"""
actions:
  description: What was done, one sentence each; in check mode, what would be done.
  returned: always
  type: list
  elements: str
  sample: [let primary take over]
progress:
  description: What the daemon reported during the wait, each with the seconds since the beginning.
  returned: always
  type: list
  elements: dict
  sample: [{at_s: 0.1, text: "demo: protected; leading; primary is in sync and can take over at any moment"}]
status:
  description: The last status of the VM that this host's daemon reported, as C(ploverctl status -o json) prints it.
  returned: if the daemon runs
  type: dict
refused:
  description: Whether it failed because the request makes no sense here. Nothing was changed then.
  returned: on failure
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible import member, plan  # noqa: E402


def main():
    module = AnsibleModule(argument_spec={**member.ARGUMENTS, "to": {"type": "str", "default": ""}}, supports_check_mode=True)
    member.run(module, plan.of_switchover)


if __name__ == "__main__":
    main()
