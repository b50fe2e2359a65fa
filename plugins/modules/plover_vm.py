#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt), which ansible-test wants in words
"""A protected VM as a whole, as seen from this host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_vm
short_description: A protected VM as a whole, as seen from this host
description:
  - Starts this host's member of a VM, replica or witness, and waits until the VM is in the wanted state.
  - Run it on all members of the VM, or on one of them once the others run.
version_added: 0.1.0
extends_documentation_fragment: plover.vmft.member
options:
  state:
    description:
      - V(protected) enables and starts this host's daemon, and waits until another host can take over at any moment.
      - V(serving) does the same, but waits only until the VM serves.
      - V(unprotected) stops and disables this host's daemon without any check; on a replica it also ends its copy of the VM.
        On the leader this is a failure like any other; on the last replica it ends the VM.
      - V(off) presses the VM's power button, if this host leads, and waits until the guest has shut down. The VM stays off, over
        reboots of its hosts too, and is no failure (C(docs/operations.md)). A guest that does not heed the button runs on; then the
        module fails after O(timeout_s).
      - V(running) does the same as V(serving), and boots a VM that is off.
      - Run V(off) and V(running) on both replicas, so that it does not matter which of them leads.
    type: str
    choices: [protected, serving, running, "off", unprotected]
    default: protected
  wait:
    description: Wait for the outcome. Otherwise the module only starts this host's daemon.
    type: bool
    default: true
seealso:
  - module: plover.vmft.plover_replica
  - module: plover.vmft.plover_witness
"""

EXAMPLES = r"""
- name: Wait until the VM is protected
  plover.vmft.plover_vm:
    name: demo
    timeout_s: 180

- name: Shut the guest down, and leave it off
  plover.vmft.plover_vm:
    name: demo
    state: "off"

- name: Boot it again
  plover.vmft.plover_vm:
    name: demo
    state: running

- name: Wait only until it serves
  plover.vmft.plover_vm:
    name: demo
    state: serving
"""

RETURN = r"""
actions:
  description: What was done, one sentence each; in check mode, what would be done.
  returned: always
  type: list
  elements: str
  sample: [enabled plover-replica@demo.service, started plover-replica@demo.service]
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
  description: Whether it failed because the request makes no sense here. Nothing was changed then.
  returned: on failure
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible import member, plan  # noqa: E402


def main():
    module = AnsibleModule(
        argument_spec={
            **member.ARGUMENTS,
            "state": {"type": "str", "choices": ["protected", "serving", "running", "off", "unprotected"], "default": "protected"},
            "wait": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    member.run(module, plan.of_vm)


if __name__ == "__main__":
    main()
