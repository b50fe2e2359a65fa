# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificates of the VMs' members need attention."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plover_certificate_notes
short_description: Which certificates of the VMs' members need attention
version_added: 1.0.0
author: The Plover developers (@plover)
description:
  - Names the certificates that expired or soon expire, and those of another member or VM. The deploy play replaces them.
positional: looks, renew_days
options:
  _input:
    description: C(plover_vms).
    type: list
    elements: dict
    required: true
  looks:
    description: By host, the result of M(plover.vmft.plover_host_info).
    type: dict
    required: true
  renew_days:
    description: A certificate that is valid for fewer days is named.
    type: int
    default: 90
"""

EXAMPLES = r"""
- name: Name the certificates that need attention
  ansible.builtin.debug:
    msg: "{{ plover_vms | plover.vmft.plover_certificate_notes(looks) }}"
"""

RETURN = r"""
_value:
  description: A sentence for each of them.
  type: list
  elements: str
"""

import datetime  # noqa: E402

from ansible_collections.plover.vmft.plugins.filter.plover_problems import plain  # noqa: E402
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear  # noqa: E402
from ansible_collections.plover.vmft.plugins.plugin_utils.link_files import notes  # noqa: E402


def plover_certificate_notes(vms, looks, renew_days=90):
    found = {host: (look.get("host") or {}).get("certificates") or {} for host, look in plain(looks).items()}
    return notes(plain(vms) or [], found, datetime.datetime.now(datetime.timezone.utc), int(renew_days))


class FilterModule:
    def filters(self):
        return clear({"plover_certificate_notes": plover_certificate_notes})
