# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets of VMs, round by round."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plover_secrets
short_description: Which secret files the members of each VM get, and in which rounds
version_added: 0.2.0
author: The Plover developers (@plover)
description:
  - A secret that is there stays, one that the VM's C(secret) names is brought in, and if there is none it is made.
  - All members must have one round's file before the next round begins; then no link between them is ever refused.
  - The result is made of random numbers where a secret is made, so call it once for all hosts.
positional: _input
options:
  _input:
    description: C(plover_vms).
    type: list
    elements: dict
    required: true
  looks:
    description: By host, by VM's name, what role secrets' C(look.sh) printed there.
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
  description: By VM's name, by host, the text of its file in each of three rounds.
  type: dict
"""

from ansible_collections.plover.vmft.plugins.module_utils._ansible.secrets import plan  # noqa: E402


class FilterModule:
    def filters(self):
        return {"plover_secrets": plan}
