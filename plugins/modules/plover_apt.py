#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents the action plugin of this name: the installation itself is done by ansible.builtin.apt."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_apt
short_description: Install packages with apt, and show the progress
description:
  - Installs packages with C(ansible.builtin.apt), without those that they only recommend. While that lasts, the play's output shows
    every five seconds how much has been fetched, how many packages are installed, and which one is at hand.
  - Roles P(plover.vmft.qemu#role) and P(plover.vmft.ofed#role) call it.
author: The Plover developers (@plover)
version_added: 1.0.0
options:
  name:
    description: The packages.
    type: list
    elements: str
    required: true
  update_cache:
    description: Read the package lists of the host's sources before.
    type: bool
    default: false
  cache_valid_time:
    description: Lists that are younger than that many seconds are not read again.
    type: int
    default: 0
attributes:
  check_mode:
    description: Says whether a package would be installed.
    support: full
  diff_mode:
    description: As C(ansible.builtin.apt).
    support: full
"""

EXAMPLES = r"""
- name: Install QEMU
  plover.vmft.plover_apt:
    name: [qemu-system-x86, qemu-utils]
    update_cache: true
    cache_valid_time: 86400
"""

RETURN = r"""
stdout:
  description: What apt said.
  returned: if a package was installed
  type: str
"""
