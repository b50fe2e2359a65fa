# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets through to a member's ports: real packets between network namespaces, and the table of role firewall."""

from __future__ import annotations

import subprocess
import sys

import firewall_probe
from ansible_collections.plover.vmft.plugins.module_utils._ansible import firewall


def test_only_a_member_gets_through_by_the_way_that_leads_to_it():
    """``firewall_probe`` has a member, a host of the replication network that is none, and a client on another card."""
    vm = {"name": "shop", "primary": "me", "secondary": "member", "witness": "w", "disks": [{"path": "/shop.img"}]}
    text = firewall.nft(firewall.openings([vm], "me", {"me": "10.77.0.1", "member": "10.77.0.2", "w": "10.77.0.3"}))
    done = subprocess.run(
        ["unshare", "-n", sys.executable, firewall_probe.__file__], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert not done.returncode, done.stderr
    assert dict(line.rsplit(": ", 1) for line in done.stdout.splitlines()) == {
        "without the table, a client to the replication address 7420": "in",
        "without the table, a client with a member's address 7420": "in",
        "the member 7420": "in",
        "the member, disks 7421": "in",
        "the witness 7420": "in",
        "the witness, disks 7421": "out",
        "another host of the replication network 7420": "out",
        "a client to the replication address 7420": "out",
        "a client to the host's own address 7420": "out",
        "a client with a member's address 7420": "out",
        "the host itself 7420": "out",
        "a client to another port 9999": "in",
        "another host to another port 9999": "in",
    }
