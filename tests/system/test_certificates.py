# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of a VM's members, with the real openssl and real handshakes: at any moment of any change, whoever was linked can
link again, and what was revoked cannot."""

from __future__ import annotations

import datetime
import os
import shutil
import ssl
import stat
import subprocess

import pytest
from ansible_collections.plover.vmft.plugins.action import plover_certificates as action
from ansible_collections.plover.vmft.plugins.plugin_utils import certificates, link_files
from ansible_collections.plover.vmft.plugins.plugin_utils.authority import Authority, remove
from tls_group import CLUSTER, NOW, VM, Group, shake

DAY = datetime.timedelta(days=1)
NOBODY = 65534


@pytest.fixture(scope="session")
def deployed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployed")
    Group(folder).play()
    return folder


@pytest.fixture
def group(deployed, tmp_path):
    """A VM that is deployed and encrypts its links."""
    return Group.copy(tmp_path, deployed, "tls")


def serial(host):
    return certificates.read((host.tls / "cert.pem").read_text()).serial


def printed(host, *words):
    return subprocess.run(["openssl", *words], cwd=host.tls, capture_output=True, text=True, check=True).stdout


def test_a_new_vm_encrypts_from_the_first_link_on(tmp_path):
    group = Group(tmp_path)
    assert group.play() == 2 * 3
    for host in group.hosts.values():
        host.runs = "tls"
    assert group.linked() and {host.mode() for host in group.hosts.values()} == {"only"}
    assert group.play() == 0 and group.reasons == {}
    assert shake(group.hosts["a"], group.hosts["b"]) == (f"plover:{CLUSTER}/b", f"plover:{CLUSTER}/a")


def test_openssl_accepts_the_chain_and_says_what_the_certificate_is_for(group):
    host = group.hosts["b"]
    assert printed(host, "verify", "-x509_strict", "-CAfile", "ca.pem", "cert.pem") == "cert.pem: OK\n"
    text = printed(host, "x509", "-noout", "-text", "-in", "cert.pem")
    for words in (
        f"URI:plover:{CLUSTER}/b",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        "CA:FALSE",
        "ASN1 OID: prime256v1",
        "Digital Signature",
    ):
        assert words in text
    authority = printed(host, "x509", "-noout", "-text", "-in", "ca.pem")
    assert "CA:TRUE, pathlen:0" in authority and "Certificate Sign, CRL Sign" in authority
    assert int(printed(host, "x509", "-noout", "-serial", "-in", "cert.pem").strip().partition("=")[2], 16) == int(serial(host), 16)


def test_validity_begins_an_hour_ago_and_lasts_as_long_as_it_was_asked(group):
    found = certificates.read((group.hosts["a"].tls / "cert.pem").read_text())
    assert found.not_before == (NOW - datetime.timedelta(hours=1)).replace(microsecond=0)
    assert (found.not_after - NOW).days in (824, 825)
    assert (Authority.load(group.authority).certificate.not_after - NOW).days in (3649, 3650)


def test_keys_stay_where_they_were_made_and_are_for_root_only(group):
    for host in group.hosts.values():
        assert stat.S_IMODE(host.tls.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in host.tls.iterdir()} == {0o600}
        assert "PRIVATE" not in host.look()
    assert stat.S_IMODE(group.authority.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in group.authority.iterdir()} == dict.fromkeys(
        ("ca.key", "ca.pem", "issued.json"), 0o600
    )


def all_linked(group):
    def check():
        assert group.linked(), {name: (host.mode(), host.runs) for name, host in group.hosts.items()}

    return check


def test_what_is_written_over_a_witnesss_files_stays_its_users(group):
    if os.geteuid():
        pytest.skip("only root gives files away")
    tls = group.hosts["c"].tls
    for path in (tls, *tls.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    group.play(rotate=["certificates"])
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in tls.iterdir()} == {(NOBODY, NOBODY)}


def test_no_link_in_the_folder_is_followed_to_be_shown(group):
    host = group.hosts["c"]
    (host.folder / "victim").write_text("of root only\n")
    (host.tls / "ca.pem").unlink()
    (host.tls / "ca.pem").symlink_to(host.folder / "victim")
    assert "of root only" not in host.look() and "%cert.pem" in host.look()


def test_a_running_vm_comes_to_tls_only_without_a_refused_link(tmp_path):
    group, order = Group(tmp_path, runs=""), "cab"
    check = all_linked(group)
    group.play(check, order)
    assert {host.mode() for host in group.hosts.values()} == {"accept"}
    assert group.play(check, order) == 0, "nothing changes before the daemons know TLS"
    for name in order:
        group.hosts[name].runs = "tls"  # restarted
        check()
        if name == order[1]:
            assert group.play(check, order) == 0
    assert group.play(check, order) > 0
    assert {host.mode() for host in group.hosts.values()} == {"only"}
    assert group.play(check, order) == 0


def test_back_to_plain_links_the_same_way_and_the_files_go(group):
    check, none = all_linked(group), {"vm": {"link_security": "none"}}
    group.play(check, **none)
    assert {host.mode() for host in group.hosts.values()} == {"accept"}
    for host in group.hosts.values():
        host.runs = "none"  # restarted
        check()
    group.play(check, **none)
    assert not any((host.folder / "demo").exists() for host in group.hosts.values())
    assert group.play(check, **none) == 0


@pytest.mark.parametrize(("rotate", "broken_off"), [(["certificates"], 1), (["certificates"], 2), (["ca"], 0), (["certificates", "ca"], 2)])
def test_a_rotation_refuses_nobody_even_if_it_is_broken_off_and_done_again(group, rotate, broken_off):
    check, before = all_linked(group), {name: serial(host) for name, host in group.hosts.items()}
    authority = Authority.load(group.authority).certificate.serial
    group.play(check, rotate=rotate, stop_after=broken_off)
    group.play(check, rotate=rotate, order="cba")
    assert all(serial(host) != before[name] for name, host in group.hosts.items())
    assert ("ca" in rotate) == (Authority.load(group.authority).certificate.serial != authority)
    assert len({(host.tls / "ca.pem").read_text() for host in group.hosts.values()}) == 1
    assert len(certificates.pems((group.hosts["a"].tls / "ca.pem").read_text())) == 1
    assert group.play(check) == 0


@pytest.mark.parametrize("rotate", [["certificates"], ["ca", "certificates"]])
def test_what_was_rotated_away_is_refused(group, tmp_path, rotate):
    stolen = tmp_path / "stolen"
    shutil.copytree(group.hosts["c"].folder, stolen)
    thief = type(group.hosts["c"])(tmp_path / "thief", "tls")
    shutil.copytree(stolen / "demo", thief.folder / "demo")
    assert shake(thief, group.hosts["a"])
    group.play(rotate=rotate, only=["c"] if rotate == ["certificates"] else [])
    shutil.copy(group.hosts["a"].tls / "ca.pem", thief.tls / "ca.pem")
    with pytest.raises(ssl.SSLError):
        shake(thief, group.hosts["a"])
    assert group.linked()


def test_a_plain_deployment_completes_the_revocation_of_a_rotation_that_was_broken_off(group):
    before = {serial(host) for host in group.hosts.values()}
    group.play(rotate=["certificates"], stop_after=2)
    assert not (group.hosts["a"].tls / "revoked").exists()
    group.play(all_linked(group))
    assert {frozenset((host.tls / "revoked").read_text().split()) for host in group.hosts.values()} == {frozenset(before)}
    assert group.play() == 0


def test_one_member_alone_gets_a_new_certificate(group):
    before = {name: serial(host) for name, host in group.hosts.items()}
    group.play(all_linked(group), rotate=["certificates"], only=["b"])
    assert {name for name, host in group.hosts.items() if serial(host) != before[name]} == {"b"}
    assert {(host.tls / "revoked").read_text() for host in group.hosts.values()} == {before["b"] + "\n"}


def test_a_certificate_that_expires_soon_is_renewed_and_keeps_its_key(tmp_path):
    group = Group(tmp_path)
    group.play(now=NOW - 736 * DAY)
    for host in group.hosts.values():
        host.runs = "tls"
    key, old = (group.hosts["a"].tls / "key.pem").read_text(), serial(group.hosts["a"])
    assert group.play(now=NOW - 2 * DAY) == 0
    assert group.play(all_linked(group)) == 3
    assert all(why.startswith("its certificate expires on ") for _key, why in group.reasons.values())
    assert (group.hosts["a"].tls / "key.pem").read_text() == key and serial(group.hosts["a"]) != old
    assert not (group.hosts["b"].tls / "revoked").exists()
    assert group.play() == 0


def test_a_ca_that_would_expire_before_the_certificate_is_replaced(group):
    old = Authority.load(group.authority).certificate.serial
    group.play(now=NOW + 800 * DAY, days=1000)
    assert Authority.load(group.authority).certificate.serial == old
    group.play(now=NOW + 2900 * DAY)
    assert Authority.load(group.authority).certificate.serial != old
    assert group.play(now=NOW + 2900 * DAY) == 0


def test_a_replaced_host_gets_a_certificate_and_the_old_ones_is_refused(group):
    old, others = serial(group.hosts["b"]), [serial(group.hosts[name]) for name in "ac"]
    shutil.rmtree(group.hosts["b"].folder)
    group.hosts["b"] = type(group.hosts["b"])(group.hosts["b"].folder)
    group.play()
    assert group.reasons == {"b": ("new", "it has no certificate")}
    group.hosts["b"].runs = "tls"
    assert group.linked() and [serial(group.hosts[name]) for name in "ac"] == others
    assert {host.mode() for host in group.hosts.values()} == {"only"}
    assert {(host.tls / "revoked").read_text() for host in group.hosts.values()} == {old + "\n"}


def test_without_the_cas_folder_nothing_changes_until_a_certificate_is_needed(group):
    shutil.rmtree(group.authority)
    assert group.play() == 0
    before = {name: serial(host) for name, host in group.hosts.items()}
    group.play(all_linked(group), rotate=["certificates"], only=["a"])
    assert all(serial(host) != before[name] for name, host in group.hosts.items())
    assert len(certificates.pems((group.hosts["a"].tls / "ca.pem").read_text())) == 1


def test_many_revocations_end_in_a_new_ca_and_an_empty_list(group):
    (group.hosts["a"].tls / "revoked").write_text("".join(f"{n:02X}\n" for n in range(link_files.REVOKED_MAX)))
    group.play(all_linked(group), rotate=["certificates"], only=["b"])
    assert not any((host.tls / "revoked").exists() for host in group.hosts.values())
    assert group.play() == 0


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda a, b: shutil.copy(b.tls / "cert.pem", a.tls / "cert.pem"), "its key does not fit its certificate"),
        (
            lambda a, b: [shutil.copy(b.tls / name, a.tls / name) for name in ("cert.pem", "key.pem")],
            f"its certificate is that of plover:{CLUSTER}/b",
        ),
        (lambda a, b: (a.tls / "cert.pem").write_text("nonsense\n"), "its certificate cannot be read"),
        (lambda a, b: (b.tls / "revoked").write_text(serial(a).lower() + "\n"), "its certificate was revoked"),
        (lambda a, b: shutil.rmtree(a.tls), "it has no certificate"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_named_and_mended(group, spoil, why):
    spoil(group.hosts["a"], group.hosts["b"])
    group.play()
    assert group.reasons["a"] == ("new", why)
    assert group.linked() and group.play() == 0


def test_what_the_prechecks_say_of_certificates(group):
    looks = {name: {"demo": (host.tls / "cert.pem").read_text()} for name, host in group.hosts.items()}
    assert link_files.notes([VM], looks, NOW, 90) == [] == link_files.notes([VM], {}, NOW, 90)
    looks["c"], looks["b"] = looks["a"], {"demo": "nonsense"}
    assert link_files.notes([VM], looks, NOW + 800 * DAY, 90) == [
        f"demo on a: its certificate expires on {NOW + 825 * DAY:%Y-%m-%d}; the deploy play gives it a new one",
        "demo on b: its certificate cannot be read; the deploy play gives it a new one",
        f"demo on c: its certificate is that of plover:{CLUSTER}/a; the deploy play gives it a new one",
    ]
    assert "a: its certificate expired on" in link_files.notes([VM], looks, NOW + 900 * DAY, 90)[0]
    assert link_files.notes([{**VM, "link_security": "none"}], looks, NOW, 90) == []


def test_the_action_signs_once_all_requests_are_there_and_a_check_leaves_nothing(tmp_path):
    hosts, folder = Group(tmp_path / "hosts").hosts, tmp_path / "cas"
    given = {"vms": [VM], "looks": {name: {"demo": host.look()} for name, host in hosts.items()}}
    asked = action._sign(folder, given, False)
    assert not asked["changed"] and set(asked["needs"]["demo"]) == set("abc") and asked["rounds"] == {} and not folder.exists()
    given["requests"] = {name: {"demo": host.files.request(True)} for name, host in hosts.items()}
    assert action._sign(folder, given, True)["rounds"]["demo"] and not folder.exists()
    done = action._sign(folder, given, False)
    assert done["changed"] and done["differs"]["demo"] == dict.fromkeys("abc", True)
    assert len(done["actions"]) == 4 and "PRIVATE" not in str(done)
    assert action._remove(folder, [VM], True)["changed"] and action._remove(folder, [VM], False)["changed"]
    assert not action._remove(folder, [VM], False)["changed"] and not (folder / CLUSTER).exists()


def test_a_damaged_ca_is_refused_with_the_remedy(group):
    key = certificates.key_text(certificates.new_key())
    (group.authority / "ca.key").write_text(key)
    with pytest.raises(ValueError, match=r"secrets_ca_dir: .*ca.key is not the key of ca.pem.*move it away") as caught:
        Authority.load(group.authority)
    assert key.splitlines()[1] not in str(caught.value)
    assert remove(group.authority) and not group.authority.exists()
    assert not remove(group.authority) and Authority.load(group.authority) is None


def test_a_request_decides_about_nothing_but_its_key(group, tmp_path):
    own = Authority.load(group.authority)
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "key",
         "-out", tmp_path / "csr", "-subj", "/CN=other", "-addext", "basicConstraints=CA:TRUE", "-addext", "subjectAltName=URI:plover:x/y"],
        check=True, capture_output=True,
    )  # fmt: skip
    signed = own.sign((tmp_path / "csr").read_text(), f"plover:{CLUSTER}/a", NOW, 10)
    assert signed.names == (f"plover:{CLUSTER}/a",)
    subprocess.run(["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key", "-out", tmp_path / "csr",
                    "-subj", "/CN=a"], check=True, capture_output=True)  # fmt: skip
    with pytest.raises(ValueError, match="P-256"):
        own.sign((tmp_path / "csr").read_text(), f"plover:{CLUSTER}/a", NOW, 10)
    with pytest.raises(ValueError):
        own.sign("nonsense", f"plover:{CLUSTER}/a", NOW, 10)


def test_a_vm_without_tls_and_without_files_is_left_alone(tmp_path):
    group = Group(tmp_path, runs="")
    assert group.play(vm={"link_security": "none"}) == 0 and not group.authority.exists()
    assert VM["name"] == "demo"
