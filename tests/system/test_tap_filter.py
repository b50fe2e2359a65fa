# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM is held to what it was given: a real TAP, nftables and bridge judge honest and forged frames, in a network namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import guest_frames as frames
import pytest
import tap_probe
from plover.config import spoof
from plover.dataplane import filter_rules
from plover.protocol.frames import announcements

from lab.paths import ROOT

VALUES = {**frames.GIVEN, "spoof_check": "auto"}
LAST = frames.ether(frames.ARP, frames.arp(frames.OWN)[14:]).hex()  # it passes in each mode


def probe(cases, flush=False, **more):
    order = {
        "settings": {**VALUES, **more},
        "frames": [case.frame.hex() for case in cases],
        "last": LAST,
        "bpdu": frames.bpdu().hex(),
        "flush": flush,
    }
    done = subprocess.run(
        ["unshare", "-nm", sys.executable, tap_probe.__file__],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins" / "module_utils")},
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def expected(cases, check):
    """[arrives, reasons] of each case."""
    drops = [bool(case.reason) and (check == "strict" or (check == "mac" and case.in_mac_mode)) for case in cases]
    return {case.name: [not drop, [case.reason] if drop else []] for case, drop in zip(cases, drops)}


def seen(cases, result):
    return dict(zip((case.name for case in cases), result["found"]))


@pytest.mark.parametrize("check", ["strict", "mac", "off"])
def test_what_the_vm_may_not_send_arrives_nowhere_and_all_else_does(check):
    cases = frames.HONEST + frames.FORGED
    result = probe(cases, spoof_check=check)
    assert seen(cases, result) == expected(cases, check)
    assert result["root_moved"] == (check == "off"), "a BPDU reached the bridge"
    assert result["tap_dropped"] == 0 and result["left"] == ""
    # A frame outlives a TAP that goes down. It was meant for a leader that is no more; the one that comes later is read.
    assert (result["waited"], result["read"]) == ([True, True], [2])


def test_frames_of_the_link_are_dropped_and_counted():
    found = seen(frames.LINK_CONTROL, probe(frames.LINK_CONTROL))
    assert {name: reasons for name, (_came, reasons) in found.items()} == {case.name: ["link_control"] for case in frames.LINK_CONTROL}


@pytest.mark.parametrize("check", ["strict", "mac"])
def test_a_vm_speaks_in_the_vlans_it_was_given_and_is_held_to_its_addresses_there(check):
    assert seen(frames.TAGGED, probe(frames.TAGGED, vlans=[5, 7], spoof_check=check)) == expected(frames.TAGGED, check)


def test_a_vm_that_may_serve_dhcp_and_routes_does_so():
    hidden = [case for case in frames.SERVERS if case.frame]
    assert seen(hidden, probe(hidden, serves=["dhcp", "router"])) == expected(hidden, "strict")


def test_what_a_new_leader_announces_passes():
    cases = [frames.Case(f"announcement {n}", "", frame) for n, frame in enumerate(announcements(frames.MAC, [frames.OWN]))]
    assert seen(cases, probe(cases)) == expected(cases, "strict")


def test_a_filter_that_somebody_flushed_comes_back():
    result = probe(frames.FORGED[:1], flush=True)
    assert result["found"] == [[False, ["source_mac"]]]
    assert result["status"]["loaded_again"] == 1


NETWORKS = [[], ["0.0.0.0/0", "::/0"], ["192.168.79.0/24", "192.168.79.50", "10.0.0.0/8"], ["2001:db8::1", "2001:db8::/32", "fe80::/10"]]


@pytest.mark.parametrize("networks", NETWORKS, ids=str)
@pytest.mark.parametrize("vlans, serves", [([], []), ([1, 4094, 7], ["dhcp"]), ([9], ["router", "dhcp"])])
@pytest.mark.parametrize("check", ["strict", "mac"])
def test_nft_takes_the_rules_of_each_setting(networks, vlans, serves, check):
    values = {**VALUES, "networks": networks, "vlans": vlans, "serves": serves, "spoof_check": check}
    text = filter_rules.replace("lo", spoof.given(values))
    done = subprocess.run(["unshare", "-n", "nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
