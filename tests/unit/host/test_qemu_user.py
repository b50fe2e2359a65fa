# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's user: one for each VM, and no QEMU runs as root because it is missing."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess

import pytest
from plover.config.settings import Config
from plover.errors import QemuError
from plover.host import qemu_user
from settings import settings

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def config(**more) -> Config:
    return Config(settings("primary", **{"qemu_user": "", **more}))


@pytest.mark.parametrize("vm", ["demo", "a", "x" * 25, "x" * 26, "y" * 31, "y" * 30 + "z"])
def test_each_vm_has_a_user_with_a_name_that_useradd_takes(vm):
    name = qemu_user.default_name(vm)
    assert name.startswith("plover-") and len(name) <= 32
    assert len({qemu_user.default_name(vm[:n]) for n in range(1, len(vm) + 1)}) == len(vm), "no two VMs have one"


def test_names_that_begin_alike_are_told_apart():
    assert qemu_user.default_name("y" * 31) != qemu_user.default_name("y" * 30 + "z")


@pytest.mark.parametrize(
    "given, name",
    [({}, "plover-demo"), ({"qemu_user": "nobody"}, "nobody"), ({"qemu_supervisor": "child"}, "root"), ({"qemu_user": "root"}, "root")],
)
def test_the_setting_counts_where_there_is_one(given, name):
    assert qemu_user.name_of(config(**given)) == name


@AS_ROOT
@pytest.mark.parametrize(
    "given, said",
    [
        ({"name": "not-there"}, "no user plover-not-there on this host, .* not run as root .*plover-replica@not-there makes it"),
        ({"qemu_user": "plover-none"}, "no user plover-none on this host, .*create it, or remove the setting"),
    ],
)
def test_a_missing_user_is_refused(given, said):
    with pytest.raises(QemuError, match=f"qemu_user: there is {said}"):
        qemu_user.find(config(**given))


@AS_ROOT
def test_it_is_found_with_its_ids_and_what_it_may(tmp_path):
    user, entry = qemu_user.find(config(qemu_user="nobody")), pwd.getpwnam("nobody")
    assert (user.uid, user.gid) == (entry.pw_uid, entry.pw_gid) and 0 not in user.groups
    assert user.may("/bin/true", "x") and not user.may("/etc/shadow", "r")


@AS_ROOT
def test_a_file_is_given_and_no_link_is_followed(tmp_path):
    user, victim = qemu_user.find(config(qemu_user="nobody")), tmp_path / "victim"
    victim.write_text("root's own")
    user.give(victim)
    assert (victim.stat().st_uid, victim.stat().st_mode & 0o777) == (user.uid, 0o600)
    os.chown(victim, 0, 0)
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        user.give(tmp_path / "link")
    assert victim.stat().st_uid == 0


@AS_ROOT
def test_a_running_qemu_is_let_in_whoever_it_is(tmp_path):
    with socket.socket(socket.AF_UNIX) as made, subprocess.Popen(["sleep", "60"], user=65534, group=65534) as qemu:
        made.bind(str(tmp_path / "a"))
        qemu_user.let_in(tmp_path / "a", qemu.pid)
        qemu.kill()
    found = (tmp_path / "a").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65534, 65534, 0o600)


def test_a_running_process_tells_its_user():
    assert qemu_user.of_process(os.getpid()) == (os.geteuid(), os.getegid())
    with pytest.raises(QemuError, match="cannot see which user QEMU"):
        qemu_user.of_process(1 << 22)
