#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# earlier.sh NAME QEMU: what the VM keeps of the settings that this host has: "unnamed" if they name no CPU model, "tcg" if it has no
# KVM, machine=TYPE. If there are no settings: new=TYPE, what "pc" means to the QEMU here. Changes nothing.
if [ -e "/etc/plover/$1.json" ]; then
    exec python3 -c 'import json, sys
found = json.load(open(sys.argv[1]))
cpu, accel = "guest_cpu" in found or "unnamed", found.get("guest_accel", "tcg")
print(*[word for word in (cpu, accel) if word in ("unnamed", "tcg")], "machine=" + found.get("guest_machine", "pc"))' "/etc/plover/$1.json"
fi
if [ -x "$2" ]; then
    "$2" -machine help | sed -n 's/^pc  *.*(alias of \(pc-i440fx-[0-9.]*\)).*/new=\1/p'
fi
