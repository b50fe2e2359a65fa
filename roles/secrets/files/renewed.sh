#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# renewed.sh NAME SERIAL...: wait until all links of this host's member are encrypted, with these certificates. Changes nothing.
name=$1
shift
systemctl is-active --quiet "plover-replica@$name.service" || systemctl is-active --quiet "plover-witness@$name.service" || exit 0
said=nothing
for _ in $(seq 60); do
    said=$(timeout 20 ploverctl --vm "$name" status -o json 2>/dev/null | python3 -IS -c '
import json, sys
status = json.load(sys.stdin)
shown = {int(one["serial"], 16) for one in status.get("tls", {}).get("certificates", {}).values()}
# A pipe of RDMA is not renewed while it is up (docs/operations.md).
if status.get("transport") != "rdma" and (status.get("link_security") != "tls" or shown - {int(one, 16) for one in sys.argv[1:]}):
    print("link_security", status.get("link_security"), "encrypted", status.get("encrypted"))' "$@" 2>&1) && [ -z "$said" ] && exit 0
    sleep 1
done
echo "$name: its links do not use the new certificates yet ($said); old and new ones are accepted. Run the play again" >&2
exit 1
