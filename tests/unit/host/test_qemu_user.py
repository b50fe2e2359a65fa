# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU gives up root, or does not start: it stays root only where the settings say so."""

from __future__ import annotations

import pytest
from plover.config.settings import Config
from plover.errors import QemuError
from plover.host import qemu_user
from settings import settings


@pytest.fixture(autouse=True)
def as_root(monkeypatch):
    monkeypatch.setattr(qemu_user.os, "geteuid", lambda: 0)


@pytest.mark.parametrize("user", [qemu_user.DEFAULT, "no-such-user"])
def test_a_user_that_is_missing_is_refused_with_the_remedy(monkeypatch, user):
    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(qemu_user.pwd, "getpwnam", nobody)
    with pytest.raises(QemuError, match=f"qemu_user: there is no user {user} on this host; .* run the deploy play"):
        qemu_user.find(Config(settings("primary", qemu_user=user)))


def test_root_has_to_be_typed():
    assert qemu_user.find(Config(settings("primary", qemu_user="root"))) is None
    assert qemu_user.find(Config(settings("primary", qemu_user="nobody"))).name == "nobody"
