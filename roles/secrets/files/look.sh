#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# look.sh NAME: what this host has of a VM's secret. Changes nothing.
cd /etc/plover 2>/dev/null || exit 0
echo "%folder"
[ ! -e "$1.json" ] || echo "%deployed"
[ -e "$1.secret" ] || exit 0

# Have both other members proved themselves to this one? Links come and go, so it is asked a few times.
proven() {
    for _ in 1 2 3 4 5; do
        timeout 20 ploverctl --vm "$1" status -o json 2>/dev/null | python3 -c '
import json, sys
proven = json.load(sys.stdin).get("authenticated", {})
sys.exit(not (len(proven) == 2 and all(proven.values())))' 2>/dev/null && return
        sleep 0.3
    done
    return 1
}

# Only while it is open does it matter.
if grep -qx open "$1.secret" && proven "$1"; then echo "%proven"; fi
cat "$1.secret"
