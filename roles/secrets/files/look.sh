#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# look.sh NAME: what this host has of a VM's secret and of the files of its encrypted links, but not the key. Changes nothing.
cd /etc/plover 2>/dev/null || exit 0
echo "%folder"
[ ! -e "$1.json" ] || echo "%deployed"
command -v openssl >/dev/null || echo "%no-openssl"

# What its daemon says. Links come and go, so it is asked a few times.
asked() { # QUESTION OF THE STATUS
    for _ in 1 2 3 4 5; do
        timeout 20 ploverctl --vm "$1" status -o json 2>/dev/null | python3 -IS -c "
import json, sys
status = json.load(sys.stdin)
$2" 2>/dev/null && return
        sleep 0.3
    done
    return 1
}

# The folder may be that of the witness's user, who is not to have other files shown.
for file in mode ca.pem cert.pem revoked; do
    [ -L "$1/tls/$file" ] || [ ! -s "$1/tls/$file" ] || sed "s/^/%$file /" "$1/tls/$file"
done
if [ -s "$1/tls/cert.pem" ]; then
    python3 -IS -c '
import ssl, sys
ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(*sys.argv[1:])' "$1/tls/cert.pem" "$1/tls/key.pem" 2>/dev/null && echo "%fits"
fi
# Only while some link may go without TLS does it matter.
if [ -e "$1.json" ] && { [ -s "$1/tls/mode" ] || [ ! -s "$1/tls/cert.pem" ]; }; then
    asked "$1" 'print("%runs", status.get("link_security", ""))'
fi

[ -e "$1.secret" ] || exit 0
# Have both other members proved themselves to this one? Only while it is open does it matter.
if grep -qx open "$1.secret" && asked "$1" '
proven = status.get("authenticated", {})
sys.exit(not (len(proven) == 2 and all(proven.values())))'; then
    echo "%proven"
fi
cat "$1.secret"
