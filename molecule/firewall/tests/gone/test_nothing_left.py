# SPDX-License-Identifier: GPL-3.0-or-later
"""After an uninstall nothing of the role is left; rules of others stay."""

from __future__ import annotations


def test_no_rule_and_no_file_is_left(host):
    assert "plover" not in host.check_output("nft list ruleset")
    assert "plover" not in host.run("firewall-cmd --get-policies").stdout
    found = host.run("find / -xdev -name '*plover*' -not -path '/proc/*' -not -path '/sys/*'")
    assert found.stdout.split() == []


def test_rules_of_others_stay(host):
    if host.check_output("hostname") == "primary":
        rules = host.check_output("ufw show added").splitlines()
        assert rules[1:] == ["ufw allow 22/tcp", "ufw allow from 192.0.2.1 to any port 7420 proto tcp"]
        assert "Status: active" in host.check_output("ufw status")
