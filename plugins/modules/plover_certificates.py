#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents the action plugin of this name, which runs on the control machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_certificates
short_description: Sign the certificates by which the members of VMs know each other
description:
  - Keeps a small certificate authority (CA) for each VM, in a folder of the control machine. Its key never leaves that folder.
  - Plans which members need a certificate, signs their requests, and plans the rounds in which the members get their files. Role
    P(plover.vmft.secrets#role) calls it and writes the files.
  - Runs on the control machine only; call it once for all hosts.
author: The Plover developers (@plover)
version_added: 1.0.0
options:
  vms:
    description: C(plover_vms).
    type: list
    elements: dict
    required: true
  folder:
    description: The folder of the CAs on the control machine, one folder below it for each VM, named by its C(cluster_id).
    type: str
    required: true
  looks:
    description: What C(look.sh) of role secrets printed, by host and VM name.
    type: dict
    default: {}
  requests:
    description: Requests (CSRs), by host and VM name. A VM's certificates are signed once those of all RV(needs) are there.
    type: dict
    default: {}
  rotate:
    description: What to replace although nothing is wrong with it. V(secret) concerns the role and is ignored here.
    type: list
    elements: str
    choices: [secret, certificates, ca]
    default: []
  members:
    description: The hosts whose certificates O(rotate) replaces; all if empty.
    type: list
    elements: str
    default: []
  days:
    description: How long a new certificate is valid.
    type: int
    default: 825
  renew_days:
    description: A certificate that is valid for fewer days is replaced.
    type: int
    default: 90
  state:
    description: V(absent) removes the CAs of O(vms) from the control machine.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Reports who needs a certificate; makes no CA and keeps no record.
    support: full
  diff_mode:
    description: Certificates say nothing to a reader.
    support: none
"""

EXAMPLES = r"""
- name: Find the members without a certificate
  plover.vmft.plover_certificates:
    vms: "{{ plover_vms }}"
    folder: ~/.local/share/plover/ca
  run_once: true
  check_mode: true
  register: certificates
"""

RETURN = r"""
needs:
  description: Who needs a certificate, by VM name and host. C(key) says whether it takes a V(new) key or the V(same); C(why) is the
    reason.
  returned: if O(state=present)
  type: dict
reasons:
  description: The same, one sentence each.
  returned: if O(state=present)
  type: list
  elements: str
rounds:
  description: The files of each member in each of the three rounds, by VM name and host, of VMs whose requests are complete.
  returned: if O(state=present)
  type: dict
differs:
  description: Whether a member has to write anything, by VM name and host.
  returned: if O(state=present)
  type: dict
serials:
  description: Serial numbers of the certificates that the members show after the second round, by VM name; empty if not all links
    are encrypted then.
  returned: if O(state=present)
  type: dict
actions:
  description: What was done on the control machine, one sentence each.
  returned: success
  type: list
  elements: str
"""
