#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt), which ansible-test wants in words
"""This host's replica of a VM: its daemon, its unit, its QEMU."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_replica
short_description: This host's replica of a protected VM
description:
  - Starts, stops, restarts or removes the replica daemon of this host.
  - Refuses what would interrupt the VM's service, and says what to do instead.
version_added: 0.2.0
extends_documentation_fragment: plover.vmft.member
options:
  state:
    description:
      - V(started) enables and starts the daemon.
      - V(restarted) restarts it, and waits until the VM is protected again if it was before.
      - V(stopped) stops it and ends this host's QEMU. The unit stays enabled, so it starts at the next boot.
      - V(absent) stops and disables it, ends QEMU, and removes this member's settings and state. Images of disks stay.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  switchover:
    description: If this host leads, let the other replica take over first. Without it the daemon of a leader is neither
      stopped nor restarted.
    type: bool
    default: false
  force:
    description: Stop or restart it even if the VM then does not serve, until the daemon is back or for good.
    type: bool
    default: false
  wait:
    description: After a start or restart, wait until the VM is protected. That takes all members.
    type: bool
    default: false
seealso:
  - module: plover.vmft.plover_witness
  - module: plover.vmft.plover_vm
"""

EXAMPLES = r"""
- name: Start the replica, and wait until the VM is protected
  plover.vmft.plover_replica:
    name: demo
    wait: true
    timeout_s: 180

- name: Restart one replica after the other; a leader hands over first
  plover.vmft.plover_replica:
    name: demo
    state: restarted
    switchover: true
  throttle: 1
"""

RETURN = r"""
actions:
  description: What was done, one sentence each; in check mode, what would be done.
  returned: always
  type: list
  elements: str
  sample: [let secondary take over, restarted plover-replica@demo.service]
progress:
  description: What the daemon reported during the wait, each with the seconds since the beginning.
  returned: always
  type: list
  elements: dict
  sample: [{at_s: 0.4, text: "demo: degraded; leading without protection; filling secondary: 40 %"}]
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
            "switchover": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    member.run(module, plan.of_member, "replica")


if __name__ == "__main__":
    main()
