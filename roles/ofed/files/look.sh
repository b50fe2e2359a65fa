#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Read-only look at a host: ADDRESS INTERFACE MODULE,... ("-": none). One JSON object.
address=$1 interface=$2 modules=$3
PATH=$PATH:/usr/sbin:/sbin # where kmod is; a plain user's PATH may lack it
list() { # WORD...: as a JSON list
    out=
    for word in "$@"; do out="$out${out:+, }\"$word\""; done
    echo "[$out]"
}
[ "$modules" != - ] || modules=
unloaded='' absent=''
for module in $(echo "$modules" | tr ',' ' '); do
    [ -d "/sys/module/$(echo "$module" | tr - _)" ] && continue
    file=$(modinfo -F filename "$module" 2>/dev/null)
    case $file in
        "(builtin)") ;;
        "") unloaded="$unloaded $module" absent="$absent $module" ;;
        *) unloaded="$unloaded $module" ;;
    esac
done
[ "$interface" != - ] || interface=$(ip -br addr |
    awk -v a="$address/" '{for (i = 3; i <= NF; i++) if (index($i, a) == 1) print $1}' | cut -d@ -f1 | head -n 1)
there=false; [ -n "$interface" ] && [ -e "/sys/class/net/$interface" ] && there=true
headers=false; [ -e "/lib/modules/$(uname -r)/build" ] && headers=true
container=$(systemd-detect-virt --container 2>/dev/null)
members=$(systemctl list-units --plain --no-legend --state=active 'plover-witness@*' 'plover-replica@*' 2>/dev/null |
    awk '{print $1}')
version=$(ofed_info -s 2>/dev/null | head -n 1 | tr -d ': "')
. /etc/os-release
# shellcheck disable=SC2086 # lists of words
cat <<END
{"kernel": "$(uname -r)", "machine": "$(uname -m)", "distribution": "$ID${VERSION_ID:-}", "container": "${container#none}",
 "unloaded": $(list $unloaded), "absent": $(list $absent), "interface": "$interface", "interface_there": $there,
 "headers": $headers, "version": "$version", "members": $(list $members)}
END
