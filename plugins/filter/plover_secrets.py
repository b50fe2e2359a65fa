# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs' secret files, round by round."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plover_secrets
short_description: Which secret files the members of each VM get, and in which rounds
version_added: 0.2.0
author: The Plover developers (@plover)
description:
  - An existing secret stays. A secret in the VM's C(secret) replaces it. If a VM has none, the filter makes one.
  - All members must have one round's file before the next round begins. Then no link between them is ever refused.
  - New secrets are random, so call the filter once for all hosts.
positional: _input
options:
  _input:
    description: C(plover_vms).
    type: list
    elements: dict
    required: true
  looks:
    description: What C(look.sh) of role secrets printed, by host and VM name.
    type: dict
    required: true
  rotate:
    description: Make a new secret for each VM whose C(secret) does not name one.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make a secret for a VM that has none
  ansible.builtin.debug:
    msg: "{{ [{'name': 'demo', 'primary': 'a', 'secondary': 'b', 'witness': 'c'}] | plover.vmft.plover_secrets({}) }}"
"""

RETURN = r"""
_value:
  description: The text of each secret file in each of the three rounds, by VM name and host.
  type: dict
"""

from ansible_collections.plover.vmft.plugins.module_utils._ansible.secrets import plan  # noqa: E402


class FilterModule:
    def filters(self):
        return {"plover_secrets": plan}
