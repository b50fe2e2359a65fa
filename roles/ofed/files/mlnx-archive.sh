#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# On the control machine: ARCHIVE SHA256. What the archive says of itself, read only if its checksum is the right one.
archive=$1 wanted=$2
sum=$(sha256sum "$archive" | cut -d' ' -f1)
version='' distribution='' machine=''
if [ "$sum" = "$wanted" ]; then
    folder=$(mktemp -d) || exit 1
    trap 'rm -rf "$folder"' EXIT
    tar -xf "$archive" -C "$folder" --no-same-owner --wildcards --no-wildcards-match-slash \
        '*/.mlnx' '*/distro' '*/arch' 2>/dev/null
    word() { cat "$folder"/*/"$1" 2>/dev/null | head -n 1 | tr -cd 'A-Za-z0-9._ -' | cut -d' ' -f1; }
    version=$(word .mlnx) distribution=$(word distro) machine=$(word arch)
fi
echo "{\"sha256\": \"$sum\", \"version\": \"$version\", \"distribution\": \"$distribution\", \"machine\": \"$machine\"}"
