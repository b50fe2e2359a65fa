#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents the action plugin of this name, which runs on the control machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_exporter_certificate
short_description: Sign the certificate of a host's plover-exporter
description:
  - Signs with the CA of a VM's group, which M(plover.vmft.plover_certificates) keeps on the control machine. The certificate names the
    exporter and its host, and no member; so its key opens no link between members.
  - Role P(plover.vmft.monitoring#role) calls it. Runs on the control machine only.
author: The Plover developers (@plover)
version_added: 1.0.0
options:
  folder:
    description: The folder of the CAs on the control machine, C(secrets_ca_dir).
    type: str
    required: true
  cluster_id:
    description: The C(cluster_id) of the VM whose CA signs.
    type: str
    required: true
  host:
    description: The host's name in the inventory.
    type: str
    required: true
  names:
    description: Names and addresses by which clients reach the host.
    type: list
    elements: str
    required: true
  certificate:
    description: The certificate that the host has; empty if none. It is kept while it fits.
    type: str
    default: ""
  request:
    description: A request (CSR) of the host's key; empty to only ask whether one is needed.
    type: str
    default: ""
  days:
    description: How long a new certificate is valid.
    type: int
    default: 825
  renew_days:
    description: A certificate that is valid for fewer days is replaced.
    type: int
    default: 90
attributes:
  check_mode:
    description: Says what would be signed.
    support: full
  diff_mode:
    description: Nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Ask whether the exporter needs a certificate
  plover.vmft.plover_exporter_certificate:
    folder: ~/.local/share/plover/ca
    cluster_id: 3c2f4c06-3c3e-4b6e-9a34-0d0a6b1d8f01
    host: a
    names: [a.example.org, 192.0.2.11]
  register: asked
"""

RETURN = r"""
why:
  description: Why the host needs a certificate; empty if it needs none.
  returned: success
  type: str
certificate:
  description: The certificate that the host should have; empty if it needs one and there was no request.
  returned: success
  type: str
authority:
  description: The CA's certificate.
  returned: success
  type: str
"""
