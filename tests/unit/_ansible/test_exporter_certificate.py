# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter's certificate: from the group's CA, with the host's names, and worth nothing on the members' links."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.plover.vmft.plugins.action.plover_exporter_certificate import signed
from ansible_collections.plover.vmft.plugins.plugin_utils import certificates
from ansible_collections.plover.vmft.plugins.plugin_utils.authority import Authority
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from plover.errors import WireError
from plover.links.secure import identity

NOW = datetime.datetime(2026, 5, 4, tzinfo=datetime.timezone.utc)
CLUSTER = "3c2f4c06-3c3e-4b6e-9a34-0d0a6b1d8f01"
NAMES = ["a.example.org", "192.0.2.11", "2001:db8::11"]


@pytest.fixture
def folder(tmp_path):
    Authority.make(tmp_path / CLUSTER, CLUSTER, NOW).save()
    return tmp_path


def request():
    key = certificates.new_key()
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def asked(folder, now=NOW, check_mode=False, **more):
    return signed({"folder": str(folder), "cluster_id": CLUSTER, "host": "a", "names": NAMES, **more}, now, check_mode)


def test_it_names_the_host_and_is_kept_while_it_fits(folder):
    first = asked(folder)
    assert (first["changed"], first["why"], first["certificate"]) == (False, "it has none", "")
    made = asked(folder, request=request())
    found = certificates.read(made["certificate"])
    assert made["changed"] and found.names == (f"plover-exporter:{CLUSTER}/a",) and certificates.hosts_of(found.parsed) == set(NAMES)
    assert found.signed_by(certificates.read(made["authority"]))
    again = asked(folder, certificate=made["certificate"])
    assert (again["changed"], again["why"], again["certificate"]) == (False, "", made["certificate"])


@pytest.mark.parametrize(
    "more, why",
    [
        ({"names": ["b.example.org"]}, "its names have changed"),
        ({"host": "b"}, "its names have changed"),
        ({"now": NOW + datetime.timedelta(days=800)}, "it ends in 25 days"),
    ],
)
def test_it_is_renewed_when_it_no_longer_fits(folder, more, why):
    before = asked(folder, request=request())["certificate"]
    assert asked(folder, certificate=before, **more)["why"] == why
    assert asked(folder, certificate=before, request=request(), **more)["certificate"] not in ("", before)


def test_a_revoked_one_and_one_of_another_ca_are_replaced(folder, tmp_path):
    before = asked(folder, request=request())["certificate"]
    own = Authority.load(folder / CLUSTER)
    own.revoke({certificates.read(before).serial})
    own.save()
    assert "revoked" in asked(folder, certificate=before)["why"]
    Authority.make(folder / CLUSTER, CLUSTER, NOW).save()
    assert "not from the present CA" in asked(folder, certificate=before)["why"]


def test_a_check_signs_nothing(folder):
    made = asked(folder, request=request(), check_mode=True)
    assert made["changed"] and made["certificate"] == "" and Authority.load(folder / CLUSTER).issued == {}


def test_without_a_ca_it_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"secrets_ca_dir: there is no CA in .*; deploy with link_security: tls from this machine first"):
        asked(tmp_path)


def test_it_opens_no_link_between_members(folder):
    """Even if the host has a member's name."""
    found = certificates.read(asked(folder, request=request())["certificate"])
    shown = {"subjectAltName": tuple(("URI", name) for name in found.names), "serialNumber": found.serial, "notAfter": ""}
    with pytest.raises(WireError, match="who is no other member"):
        identity(shown, CLUSTER, ["a", "b", "w"])
