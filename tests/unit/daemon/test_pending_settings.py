# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings wait for a restart: those that the file has otherwise than the daemon read them, not those chosen for its host."""

from __future__ import annotations

import json

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible import plan
from plover.config import panics
from plover.config.settings import Config
from plover.daemon import member
from settings import settings


class Silent(member.MemberDaemon):
    def __init__(self, config: Config, given: Config | None = None) -> None:
        self.config, self._given = config, given or config


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(member, "CONFIG_DIR", tmp_path)
    return lambda **values: (tmp_path / "demo.json").write_text(json.dumps(settings("primary", **values)))


def test_what_was_chosen_for_this_host_does_not_wait(written):
    read = Config(settings("primary"))
    daemon = Silent(read.but(syncvm_dirty_tracking="scan"), read)
    written()
    assert daemon.settings() == {"pending": [], "problem": ""}
    written(syncvm_dirty_tracking="uffd-wp", port=7500)
    assert daemon.settings()["pending"] == ["port", "syncvm_dirty_tracking"]


def test_a_panic_device_comes_to_all_members_at_once_and_what_follows_a_panic_need_not(written):
    daemon = Silent(Config(settings("primary", on_crash="keep")))
    written(on_crash="restart")
    assert daemon.settings()["pending"] == ["on_crash"]
    written()
    assert daemon.settings()["pending"] == ["on_crash", panics.DEVICE] and panics.DEVICE in plan.TOGETHER


def test_a_file_that_cannot_be_used_is_told(written, tmp_path):
    (tmp_path / "demo.json").write_text("{")
    found = Silent(Config(settings("primary"))).settings()
    assert found["pending"] == [] and "is not JSON" in found["problem"]
