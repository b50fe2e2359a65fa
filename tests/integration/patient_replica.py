# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m patient_replica MODULE SETTINGS`: a replica's daemon in a guest under TCG (lab/kvm), where a QEMU takes many times as long
to start and to answer. Limits that no setting has are so many times longer; nothing else is changed."""

from __future__ import annotations

import os
import runpy
import sys

from plover.disks import images
from plover.host import qemu_user
from plover.qemu import colo, qmp, saving, vm

SLOWER = int(os.environ["PLOVER_TEST_SLOWER"])

vm.START_TIMEOUT_S *= SLOWER
vm.LAST_OUTPUT_S *= SLOWER
vm.KILL_TIMEOUT_S *= SLOWER
colo.TIMEOUT_S *= SLOWER
qmp.COMMAND_TIMEOUT_S *= SLOWER
saving.CAPTURE_TIMEOUT_S *= SLOWER
images.TOOL_TIMEOUT_S *= SLOWER
qemu_user.TOOL_TIMEOUT_S *= SLOWER

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
