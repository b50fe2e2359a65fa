#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status of a VM, as this host's daemon sees it."""
from __future__ import annotations

DOCUMENTATION = r"""
module: plover_info
short_description: Status of a protected VM on this host
description:
  - Asks the replica or witness daemon of this host.
author: The Plover developers (@plover)
version_added: 0.1.0
options:
  name:
    description: Name of the VM.
    type: str
    required: true
attributes:
  check_mode:
    description: Runs in check mode; it never changes anything.
    support: full
"""

EXAMPLES = r"""
- name: How is the VM?
  plover.vmft.plover_info:
    name: demo
  register: demo
"""

RETURN = r"""
status:
  description: What C(ploverctl status -o json) prints.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils.plover_client import ClientError, ask  # noqa: E402


def main():
    module = AnsibleModule(argument_spec={"name": {"type": "str", "required": True}}, supports_check_mode=True)
    try:
        module.exit_json(changed=False, status=ask(module.params["name"], "status"))
    except ClientError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
