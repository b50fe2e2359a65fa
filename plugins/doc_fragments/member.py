# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that steer a VM's members have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  name:
    description: Name of the VM.
    type: str
    required: true
  timeout_s:
    description: How long to wait, all in all. When it is over the module fails with the daemon's own sentence.
    type: int
    default: 120
  slice:
    description: For the action plugin of the same name, which calls the module in slices to show how far it is.
    type: dict
author: The Plover developers (@plover)
requirements:
  - systemd, and what the role P(plover.vmft.runtime#role) installs.
attributes:
  check_mode:
    description: Says what it would do, and whether it would refuse to.
    support: full
  diff_mode:
    description: Shows this host's member before and after.
    support: full
  platform:
    description: Where it runs.
    platforms: debian
    support: full
    details: Tested on Debian 12.
"""
