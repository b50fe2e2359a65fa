# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong input about certificates is refused by name. Real ones are in tests/system."""

from __future__ import annotations

import pytest
from ansible_collections.plover.vmft.plugins.action import plover_certificates as action
from ansible_collections.plover.vmft.plugins.plugin_utils import certificates, link_files

CLUSTER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"days": 2000}, "secrets_certificate_days: 2000 must be at most 1825"),
        ({"days": 30}, "more than secrets_certificate_renew_days, 90"),
        ({"rotate": "ca,keys"}, "rotate: ca, keys must be some of secret, certificates, ca"),
    ],
)
def test_wrong_variables_are_refused_by_name(given, said):
    with pytest.raises(ValueError, match=said):
        action._wanted(given)


@pytest.mark.parametrize("member", ["", "a/b", "a b", "a\n", "ä", "x" * 65])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(member):
    with pytest.raises(ValueError, match="cannot stand in a certificate"):
        certificates.uri_of(CLUSTER, member)
    with pytest.raises(ValueError, match="uuidgen"):
        certificates.uri_of("../..", "a")


@pytest.mark.parametrize("said", [None, "", "%mode nonsense", "%revoked ../x\n%revoked ff", "%cert.pem -----BEGIN CERTIFICATE-----", "\0"])
def test_nonsense_of_a_host_is_no_certificate(said):
    found = link_files.looked(said)
    assert found.mode == "only" and found.authorities == () and certificates.read(found.certificate) is None
    assert set(found.revoked) <= {"FF"}
