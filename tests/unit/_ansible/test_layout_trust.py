# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without a member's secret, certificate or user is refused before anything is changed."""

from __future__ import annotations

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible.host import look
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import trust

VM = {"name": "demo", "primary": "primary"}
ALL, SOME = {"tags": ["all"], "skipped_tags": []}, {"tags": ["vm"], "skipped_tags": []}
SECRET, CERTIFICATE, KEY = trust.paths([VM])


def problems(limits=ALL, seat="primary", there=(), seen=None, values=None, **vm):
    mine = {**VM, **vm}
    found = {"paths": {path: {"exists": path in there} for path in trust.paths([mine])}, "users": ["known"], **(seen or {})}
    return trust.problems(found, values or {}, [(mine, seat)], limits)


def test_a_whole_run_makes_secret_certificate_and_user():
    assert problems() == []


@pytest.mark.parametrize("limits", [SOME, {"tags": ["all"], "skipped_tags": ["secrets"]}, {"tags": ["witness"], "skipped_tags": []}])
def test_a_run_without_role_secrets_needs_what_it_makes(limits):
    secret, certificate = problems(limits)
    assert secret.startswith("secret: demo has none on this host") and "run it with the tag secrets as well" in secret
    assert (
        certificate.startswith("link_security: tls, but demo has no certificate on this host")
        and CERTIFICATE in certificate
        and KEY in certificate
    )
    assert problems(limits, there=(SECRET, CERTIFICATE, KEY)) == []
    assert [text.partition(":")[0] for text in problems(limits, link_security="none")] == ["secret"]


@pytest.mark.parametrize("tags", [["bridge"], ["secrets", "vm"], ["prechecks"]])
def test_a_run_that_starts_nobody_or_makes_them_needs_nothing(tags):
    assert problems({"tags": tags, "skipped_tags": []}) == []


def test_a_secret_file_of_the_users_own_must_be_on_each_host():
    own = {"settings": {"secret_file": "/srv/secret"}}
    (text,) = problems(seat="witness", **own)
    assert text.startswith("settings.secret_file: /srv/secret is not on this host") and "or remove the setting" in text
    assert problems(there=("/srv/secret",), **own) == []


@pytest.mark.parametrize("user", ["", "root", "known", "plover-qemu", "plover-demo"])
def test_a_user_that_is_there_or_will_be(user):
    assert problems(settings={"qemu_user": user}) == []


def test_a_user_that_is_not_there_is_named():
    (text,) = problems(settings={"qemu_user": "nobdy"})
    assert text.startswith("settings.qemu_user: there is no user nobdy on this host") and "create it, or remove the setting" in text
    assert problems(seat="witness", settings={"qemu_user": "nobdy"}) == [], "the witness runs no QEMU"
    assert problems(settings={"qemu_user": "nobdy"}, values={"qemu_user": "nobdy"}) == [], "role qemu makes it"


def test_apparmor_that_is_insisted_on():
    seen = {"apparmor_problem": "its kernel has no AppArmor"}
    (text,) = problems(settings={"qemu_apparmor": "on"}, seen=seen)
    assert (
        text.startswith("settings.qemu_apparmor: on, but this host cannot confine QEMU: its kernel has no AppArmor")
        and "set it to auto" in text
    )
    assert problems(settings={"qemu_apparmor": "auto"}, seen=seen) == problems(seen=seen) == []


def test_the_look_at_a_host(monkeypatch, tmp_path):
    monkeypatch.setattr(look, "APPARMOR", str(tmp_path / "enabled"))
    assert "boot with apparmor=1" in look.apparmor()
    (tmp_path / "enabled").write_text("Y\n")
    monkeypatch.setattr(look.os, "access", lambda path, mode: False)
    assert "install the package apparmor" in look.apparmor()
    monkeypatch.setattr(look.os, "access", lambda path, mode: path == "/sbin/apparmor_parser")
    assert look.apparmor() == ""
    assert [name for name in ("root", "no-such-user", "bad\0name") if look.is_user(name)] == ["root"]
