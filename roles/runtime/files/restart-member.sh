#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# restart-member.sh VM BEFORE TIMEOUT_S: restart this host's member of VM, unless it leads. BEFORE is the exit status that
# `ploverctl status` had before the first of the VM's members was restarted: not while it is worse, and done when it is back.
vm=$1 before=$2 end=$(($(date +%s) + $3))

wait_as_before() { # WHEN
    while ploverctl --vm "$vm" status >/dev/null 2>&1; [ $? -gt "$before" ]; do
        if [ "$(date +%s)" -ge "$end" ]; then
            echo "$vm: was protected before, and is not $1: $(ploverctl --vm "$vm" status 2>&1 | sed -n 2p). No other member" \
                "is restarted; mend it, then run the play plover.vmft.upgrade" >&2
            exit 1
        fi
        sleep 0.2
    done
}

unit=$(systemctl list-units --plain --no-legend --state=active "plover-replica@$vm.service" "plover-witness@$vm.service" |
    awk '{print $1}')
[ -n "$unit" ] || exit 0
wait_as_before "before the restart of $unit"
if ploverctl --vm "$vm" status -o json | grep -q '"role": "leader"'; then
    echo "NOTE: $vm: this host leads, so its member keeps the version it runs; the play plover.vmft.upgrade hands over and restarts it"
    exit 0
fi
systemctl restart "$unit" || exit 1
wait_as_before "after the restart of $unit"
echo "restarted $unit"
