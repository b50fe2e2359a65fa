# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a witness that is not root: they become its user's before each start, and nothing else does."""

from __future__ import annotations

import json
import os

import pytest
from plover.errors import ConfigError
from plover.witness import prepare
from settings import settings

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def folder(tmp_path):
    """As a version that ran as root left it."""
    made = settings("witness", run_dir=str(tmp_path / "run"), state_dir=str(tmp_path / "state"), secret_file=str(tmp_path / "demo.secret"))
    (tmp_path / "demo.json").write_text(json.dumps(made))
    (tmp_path / "demo.secret").write_text("s" * 32)
    (tmp_path / "other.secret").write_text("of another VM")
    for name in ("demo.json", "demo.secret", "other.secret"):
        (tmp_path / name).chmod(0o600)
    (tmp_path / "demo" / "tls").mkdir(parents=True)
    (tmp_path / "demo" / "tls" / "key.pem").touch(mode=0o600)
    state = tmp_path / "state" / "demo"
    (state / "deeper").mkdir(parents=True)
    for path in (state / "state.json", state / "deeper" / "file"):
        path.touch(mode=0o600)
    tmp_path.chmod(0o750)
    return tmp_path


def owner(path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


def test_its_user_can_read_what_it_needs_and_no_more(folder):
    for _again in range(2):
        prepare.prepare(folder, "demo", "nobody")
        assert owner(folder / "demo.json") == (0, NOBODY, 0o640)
        assert owner(folder / "demo.secret") == owner(folder / "demo" / "tls" / "key.pem") == (NOBODY, NOBODY, 0o600)
        assert owner(folder / "other.secret") == (0, 0, 0o600) and owner(folder)[2] == 0o751
        for path in ("state/demo", "state/demo/state.json", "state/demo/deeper", "state/demo/deeper/file", "run/demo"):
            assert owner(folder / path)[:2] == (NOBODY, NOBODY), path


def test_its_user_cannot_put_another_folder_in_the_place_of_its_certificates(folder):
    prepare.prepare(folder, "demo", "nobody")
    assert owner(folder / "demo") == (0, NOBODY, 0o710) and owner(folder / "demo" / "tls")[:2] == (NOBODY, NOBODY)
    (folder / "victims").mkdir(mode=0o700)
    (folder / "victims" / "shadow").touch(mode=0o600)
    (folder / "demo" / "tls").rename(folder / "demo" / "before")
    (folder / "demo" / "tls").symlink_to(folder / "victims")
    prepare.prepare(folder, "demo", "nobody")
    assert owner(folder / "victims")[:2] == owner(folder / "victims" / "shadow")[:2] == (0, 0)


def test_what_a_rollback_wrote_as_root_is_its_again(folder):
    prepare.prepare(folder, "demo", "nobody")
    os.chown(folder / "state" / "demo" / "state.json", 0, 0)
    prepare.prepare(folder, "demo", "nobody")
    assert owner(folder / "state" / "demo" / "state.json") == (NOBODY, NOBODY, 0o600)


@pytest.mark.parametrize("kind", ["symlink", "hard link", "symlink to a folder", "pipe"])
def test_nothing_outside_is_given_away_for_a_link_that_it_made(folder, kind):
    prepare.prepare(folder, "demo", "nobody")
    (folder / "victims").mkdir(mode=0o700)
    victim, target = folder / "victims" / "shadow", folder / "state" / "demo" / "link"
    victim.touch(mode=0o600)
    {
        "symlink": lambda: target.symlink_to(victim),
        "hard link": lambda: os.link(victim, target),
        "symlink to a folder": lambda: target.symlink_to(folder / "victims"),
        "pipe": lambda: os.mkfifo(target),
    }[kind]()
    prepare.prepare(folder, "demo", "nobody")
    assert owner(victim)[:2] == owner(folder / "victims")[:2] == (0, 0)


def test_a_missing_user_is_named_with_the_remedy(folder):
    with pytest.raises(ConfigError, match="there is no user plover-none on this host; role 'runtime' makes it"):
        prepare.prepare(folder, "demo", "plover-none")
