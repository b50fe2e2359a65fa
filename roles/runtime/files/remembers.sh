#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# remembers.sh NAME: does this host's member of a VM remember anything of it? "something" or "nothing". Changes nothing.
[ ! -e "/var/lib/plover/$1/state.json" ] || { echo something; exit; }

# A daemon that runs may have voted all the same: its state folder was emptied under it. One that does not say so, counts.
if systemctl is-active --quiet "plover-replica@$1" || systemctl is-active --quiet "plover-witness@$1"; then
    timeout 20 ploverctl --vm "$1" status -o json 2>/dev/null | python3 -c '
import json, sys
sys.exit(json.load(sys.stdin).get("view") != 0)' 2>/dev/null || { echo something; exit; }
fi
echo nothing
