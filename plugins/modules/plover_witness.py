#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt), which ansible-test wants in words
"""This host's witness of a VM: its daemon and its unit."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_witness
short_description: This host's witness of a protected VM
description:
  - Starts, stops, restarts or removes the witness daemon of this host.
  - While the VM is not protected, its replicas need the witness's vote. The module then refuses to stop or restart it.
version_added: 0.2.0
extends_documentation_fragment: plover.vmft.member
options:
  state:
    description:
      - V(started) enables and starts the daemon.
      - V(restarted) restarts it, and waits until it reports again that the VM is protected.
      - V(stopped) stops it. The unit stays enabled, so it starts at the next boot.
      - V(absent) stops and disables it, and removes this member's settings and state.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  force:
    description: Stop or restart even if the VM is not protected.
    type: bool
    default: false
  wait:
    description: After a start or restart, wait until the VM is protected. That takes all members.
    type: bool
    default: false
seealso:
  - module: plover.vmft.plover_replica
"""

EXAMPLES = r"""
- name: Start the witness
  plover.vmft.plover_witness:
    name: demo

- name: Restart the witness, if the VM can do without it
  plover.vmft.plover_witness:
    name: demo
    state: restarted
"""

RETURN = r"""
actions:
  description: What was done, one sentence each; in check mode, what would be done.
  returned: always
  type: list
  elements: str
  sample: [restarted plover-witness@demo.service]
progress:
  description: What the daemon reported during the wait, each with the seconds since the beginning.
  returned: always
  type: list
  elements: dict
  sample: [{at_s: 0.2, text: "demo: protected; voting; primary leads"}]
status:
  description: The last status of the VM that this host's daemon reported, as C(ploverctl status -o json) prints it.
  returned: if the daemon runs
  type: dict
refused:
  description: Whether it failed because it would have harmed the VM. Nothing was changed then.
  returned: on failure
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible import member, plan  # noqa: E402


def main():
    module = AnsibleModule(
        argument_spec={
            **member.ARGUMENTS,
            "state": {"type": "str", "choices": ["started", "stopped", "restarted", "absent"], "default": "started"},
            "force": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    member.run(module, plan.of_member, "witness")


if __name__ == "__main__":
    main()
