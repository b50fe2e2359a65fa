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
    description: How long to wait in all. After that the module fails with the daemon's own sentence.
    type: int
    default: 120
  slice:
    description: For the action plugin of the same name, which calls the module in slices to show the progress.
    type: dict
author: The Plover developers (@plover)
requirements:
  - systemd, and the runtime that the role P(plover.vmft.runtime#role) installs.
attributes:
  check_mode:
    description: Reports what it would do, or why it would refuse.
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
