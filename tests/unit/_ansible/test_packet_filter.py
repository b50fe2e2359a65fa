# SPDX-License-Identifier: GPL-3.0-or-later
"""The look whether a kernel can filter the VMs' frames, with the real kernel and with one that refuses."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible.host import packet_filter


@pytest.mark.parametrize("paths", [packet_filter.PATHS, "/nowhere"], ids=["with nft", "without"])
def test_this_kernel_can_and_nothing_is_left_of_the_trial(monkeypatch, paths):
    monkeypatch.setattr(packet_filter, "PATHS", paths)
    assert packet_filter.why_not() == ""
    assert "plover_trial" not in subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout


def test_what_the_kernel_does_not_know_is_told_in_its_words(monkeypatch):
    monkeypatch.setattr(packet_filter, "PATHS", "/nowhere")
    monkeypatch.setattr(packet_filter, "NFNL_SUBSYS_NFTABLES", 200)
    assert packet_filter.why_not() == "the kernel says: Invalid argument"
    monkeypatch.setattr(packet_filter, "NETLINK_NETFILTER", 31)
    assert packet_filter.why_not() == "the kernel says: Protocol not supported"


def test_a_chain_that_nft_refuses_is_told_in_its_words(monkeypatch):
    monkeypatch.setattr(packet_filter, "TRIAL", 'add chain netdev plover_none x { type filter hook ingress device "lo" priority 0; }')
    assert packet_filter.why_not().startswith("nft says: Error: ")
