# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of link_security tls, and its settings: what is not right is refused by name, before another member has to."""

from __future__ import annotations

import asyncio

import pytest
from plover.config.settings import Config
from plover.errors import ConfigError
from plover.links import tls
from settings import MEMBERS, settings
from test_peers import CLUSTER, free_port
from test_tls import LONG_AGO, tls_member

from lab.pki import Authority, put


def folder_of(tmp_path):
    return tls.Folder(tmp_path / "primary", CLUSTER, "primary", tuple(MEMBERS))


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_a_daemon_does_not_start_without_its_files(tmp_path, ca, name):
    ca.give(tmp_path / "primary", "primary")
    (tmp_path / "primary" / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name}: is missing; run the deploy play, or set link_security: none"):
        asyncio.run(tls_member_start(tmp_path))


async def tls_member_start(tmp_path):
    await tls_member("primary", free_port(), tmp_path / "primary").links.start()


def test_a_daemon_does_not_start_without_its_folder(tmp_path):
    with pytest.raises(ConfigError, match="tls_folder: .*No such file or directory; run the deploy play"):
        asyncio.run(tls_member_start(tmp_path))


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("ca.pem", "nonsense", "ca.pem: has no valid certificates"),
        ("ca.pem", "\u00e9", "ca.pem: has no valid certificates"),
        ("cert.pem", "nonsense", "are no certificate and its key"),
        ("key.pem", "", "are no certificate and its key"),
        ("mode", "both", "'both' is not one of accept, dial, only"),
        ("revoked", "12\nxyz\n", "'xyz' is no serial number"),
        ("revoked", "1" * 41, "is no serial number"),
        ("ca.pem", "x" * 70_000, "ca.pem: is over 65536 bytes"),
    ],
)
def test_a_file_of_nonsense_is_refused_by_name(tmp_path, ca, name, text, words):
    ca.give(tmp_path / "primary", "primary")
    put(tmp_path / "primary" / name, text)
    with pytest.raises(ConfigError, match=words):
        folder_of(tmp_path).read()


def test_files_that_others_can_read_or_change_are_refused(tmp_path, ca):
    ca.give(tmp_path / "primary", "primary")
    for name, mode in (("", 0o750), ("key.pem", 0o640), ("ca.pem", 0o620), ("revoked", 0o666)):
        path = tmp_path / "primary" / name
        if not path.exists():
            put(path, "")
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(ConfigError, match=f"run 'chmod go= {path}'"):
            folder_of(tmp_path).read()
        path.chmod(before)
    folder_of(tmp_path).read()


def test_links_and_devices_in_place_of_files_are_refused(tmp_path, ca):
    ca.give(tmp_path / "primary", "primary")
    (tmp_path / "primary" / "key.pem").rename(tmp_path / "elsewhere")
    (tmp_path / "primary" / "key.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"key.pem: cannot be read"):
        folder_of(tmp_path).read()
    (tmp_path / "linked").symlink_to(tmp_path / "primary")
    with pytest.raises(ConfigError, match="tls_folder: "):
        tls.Folder(tmp_path / "linked", CLUSTER, "primary", tuple(MEMBERS)).read()


def test_our_own_certificate_is_looked_at_before_others_do(tmp_path, ca):
    ca.give(tmp_path / "primary", "secondary")
    with pytest.raises(ConfigError, match="the other members would refuse it: the certificate of 'plover:.*/secondary'"):
        folder_of(tmp_path).read()
    ca.give(tmp_path / "primary", "primary", life=LONG_AGO)
    with pytest.raises(ConfigError, match="would refuse it: .*certificate has expired.*renew it"):
        folder_of(tmp_path).read()
    ca.give(tmp_path / "primary", "primary", ca=Authority(CLUSTER).pem)
    with pytest.raises(ConfigError, match=r"would refuse it: .*is not from a CA in this host's ca.pem"):
        folder_of(tmp_path).read()


def test_files_are_loaded_again_only_when_they_change(tmp_path, ca):
    ca.give(tmp_path / "primary", "primary")
    folder = folder_of(tmp_path)
    first = folder.read()
    assert folder.read() is first
    serial = ca.give(tmp_path / "primary", "primary")
    assert folder.read().own.serial == serial
    put(tmp_path / "primary" / "mode", "dial\n")
    assert folder.read().mode == "dial"


# --- settings ---


def problems(**more):
    with pytest.raises(ConfigError) as error:
        Config(settings("primary", link_security="tls", **more))
    return str(error.value)


def test_rdma_beside_tls_wants_a_network_that_is_trusted():
    words = problems(transport="rdma")
    assert words.startswith("rdma_trusted_network: is false, but transport rdma sends guest memory and the log unencrypted")
    Config(settings("primary", link_security="tls", transport="rdma", rdma_trusted_network=True))
    Config(settings("primary", transport="rdma"))


def test_a_name_that_no_certificate_can_have_is_refused():
    members = {**MEMBERS, "a/b": {"address": "127.0.0.9", "kind": "witness"}}
    del members["witness"]
    assert "members: 'a/b' cannot stand in a certificate" in problems(members=members)
