#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# earlier.sh NAME: what this host's settings of the VM say that it must keep: "unnamed" if they name no CPU model, "tcg" if it has no KVM.
# Changes nothing.
[ -e "/etc/plover/$1.json" ] || exit 0
python3 -c 'import json, sys
found = json.load(open(sys.argv[1]))
print("" if "guest_cpu" in found else "unnamed", "tcg" if found.get("guest_accel", "tcg") == "tcg" else "")' "/etc/plover/$1.json"
