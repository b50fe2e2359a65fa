#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents the action plugin of this name: the copy itself is done by ansible.builtin.copy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_image
short_description: Copy a disk image to a host, and show the progress
description:
  - Copies a file of the control machine with C(ansible.builtin.copy). While the transfer lasts, the play's output shows every five
    seconds how much has arrived, how fast, and how long it will still take.
  - Role P(plover.vmft.disks#role) calls it.
author: The Plover developers (@plover)
version_added: 1.0.0
options:
  src:
    description: The file on the control machine.
    type: path
    required: true
  dest:
    description: The path on the host.
    type: path
    required: true
  mode:
    description: The permissions of the copy.
    type: raw
    required: true
  force:
    description: Replace a file that is there and differs.
    type: bool
    default: true
attributes:
  check_mode:
    description: Says whether the file would be copied.
    support: full
  diff_mode:
    description: As C(ansible.builtin.copy).
    support: full
"""

EXAMPLES = r"""
- name: Copy the image of a VM's disk, if it is missing
  plover.vmft.plover_image:
    src: images/demo.img
    dest: /var/lib/plover-images/demo.img
    mode: "0600"
    force: false
"""

RETURN = r"""
dest:
  description: The path of the copy.
  returned: success
  type: str
"""
