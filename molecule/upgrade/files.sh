#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What a host has, a line each: files outside of packages' own places, units, users, groups, bridges and taps.
find /etc /opt /usr/local /var /srv /run/plover* /dev/shm -xdev 2>/dev/null |
    grep -vE '^/var/(lib/(dpkg|apt|systemd|ucf|dbus|private)|cache|log|tmp)(/|$)|^/etc/(alternatives|ld\.so\.|ssl|rc.\.d|\.pwd\.lock|(passwd|group|g?shadow)-$)'
systemctl list-unit-files --plain --no-legend | awk '{print "unit", $1, $2}'
systemctl list-units --all --plain --no-legend 'plover*' | awk '{print "unit", $1}'
getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
ls /sys/class/net | sed 's/^/link /'
