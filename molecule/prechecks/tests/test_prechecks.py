# SPDX-License-Identifier: GPL-3.0-or-later
"""Role prechecks ran three times, and the hosts are as they were: read from the hosts themselves."""

from __future__ import annotations

import pytest

FILES = (
    "find / -xdev '(' -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log -o -path "
    "/var/lib/systemd ')' -prune -o -printf '%p %s %T@\\n' | sort"
)


def test_every_file_is_as_it_was(host):
    # By root over the same ssh, which writes nothing.
    before = host.file("/run/files-before").content_string.splitlines()
    assert len(before) > 1000
    assert host.check_output(FILES).splitlines() == before


@pytest.mark.parametrize("path", ["/etc/plover", "/opt/plover", "/var/lib/plover", "/run/plover", "/root/.ansible"])
def test_nothing_of_plover_or_ansible_is_there(host, path):
    assert not host.file(path).exists


def test_no_process_and_no_unit_of_it_is_left(host):
    assert host.check_output("systemctl list-units --all --plain --no-legend 'plover*'") == ""
    assert host.run("pgrep -f plover").stdout == ""


def test_no_folder_of_the_look_is_left_in_tmp(host):
    assert not [name for name in host.file("/tmp").listdir() if "ansible" in name or "plover" in name]
