# SPDX-License-Identifier: GPL-3.0-or-later
"""The prechecks say that the host's packet filter drops frames of a bridge where the kernel does drop them, and only there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible.host import bridge_filter

from lab.netns import alone

ROOT = Path(__file__).resolve().parents[2]
TABLE = "table {0} filter {{ chain FORWARD {{ type filter hook forward priority 0; policy {1}; {2} }}; }};"
USER = (
    "table ip filter {{ chain DOCKER-USER {{ {0} }}; "
    "chain FORWARD {{ type filter hook forward priority 0; policy drop; jump DOCKER-USER; }}; }};"
)
CASES = {
    "no rules": ("", "1", True),
    "policy accept": (TABLE.format("ip", "accept", ""), "1", True),
    "policy drop": (TABLE.format("ip", "drop", ""), "1", False),
    "of both families": (TABLE.format("inet", "drop", ""), "1", False),
    "a last rule that drops": (TABLE.format("ip", "accept", "tcp dport 22 accept; counter drop;"), "1", False),
    "a last rule that rejects": (TABLE.format("ip", "accept", "reject;"), "1", False),
    "accepted by the bridge's name": (TABLE.format("ip", "drop", 'iifname "br0" accept;'), "1", True),
    "accepted in a set of names": (TABLE.format("ip", "drop", 'iifname { "br0", "br7" } oifname "br0" accept;'), "1", True),
    "another bridge accepted": (TABLE.format("ip", "drop", 'iifname "br7" accept;'), "1", False),
    "accepted as Docker wants it": (USER.format('iifname "br0" oifname "br0" accept;'), "1", True),
    "Docker without an exception": (USER.format('iifname "docker0" accept;'), "1", False),
    "everything accepted": (TABLE.format("ip", "drop", "counter accept;"), "1", True),
    "not called": (TABLE.format("ip", "drop", ""), "0", True),
    "another hook": ("table ip filter { chain INPUT { type filter hook input priority 0; policy drop; }; };", "1", True),
}


def probed(*words: str) -> dict:
    probe = str(Path(__file__).with_name("bridge_probe.py"))
    return json.loads(alone(sys.executable, probe, str(ROOT), *words, mounts=True)[0])


def test_a_spanning_trees_delay_is_seen():
    assert probed("", "0", "stp_state 1 forward_delay 1500")["delay_s"] == 15.0
    assert probed("", "0", "stp_state 0 forward_delay 1500")["delay_s"] == 0.0


@pytest.mark.parametrize("rules, called, passes", CASES.values(), ids=CASES)
def test_what_is_said_is_what_the_kernel_does(rules, called, passes):
    found = probed(rules, called)
    accepted = all({bridge_filter.ANY, "br0"} & set(chain["accepts"]) for chain in found["said"])
    assert (found["passes"], accepted, found["delay_s"]) == (passes, passes, 0.0), found


LEGACY = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n{0}"


@pytest.mark.parametrize(
    "more, accepts",
    [
        ("-A DOCKER-USER -j RETURN", []),
        ("-A DOCKER-USER -i br0 -o br0 -j ACCEPT", ["br0"]),
        ("-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT", [bridge_filter.ANY]),
    ],
)
def test_iptables_of_old_is_understood_too(more, accepts):
    assert bridge_filter.legacy(LEGACY.format(more), "ip") == [
        {"sysctl": "bridge-nf-call-iptables", "chain": "FORWARD of iptables-legacy", "accepts": accepts}
    ]


def test_nothing_is_said_of_a_policy_that_accepts_and_nonsense_is_no_rule():
    assert bridge_filter.legacy("-P FORWARD ACCEPT", "ip") == [] == bridge_filter.legacy("", "ip6")
    assert bridge_filter.legacy(LEGACY.format("-A FORWARD -j ACCEPT"), "ip") == []
    for text in ("", "{", "[]", '{"nftables": [{"chain": {}}, 7, {"rule": {"expr": []}}]}', "null"):
        assert bridge_filter.nft(text, ["ip"]) == []
