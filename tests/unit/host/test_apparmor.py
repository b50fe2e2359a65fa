# SPDX-License-Identifier: GPL-3.0-or-later
"""The AppArmor profile of a VM's QEMU: its text, and when it is made, entered or refused. tests/rdma/test_apparmor.py runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from plover.config.settings import Config
from plover.errors import QemuError
from plover.host import apparmor
from settings import settings

from lab.apparmor import PARSER, RULES, tree

PARSER_SAYS = """#!/bin/sh
echo "$@" >>{folder}/calls
[ ! -e {folder}/fails ] || {{ echo 'syntax error' >&2; exit 1; }}
"""


def config(**more) -> Config:
    return Config(settings("primary", **more))


@pytest.fixture
def host(tmp_path, monkeypatch):
    """One with AppArmor."""
    (tmp_path / "enabled").write_text("Y\n")
    (tmp_path / "kernel").mkdir()
    (tmp_path / "rules").mkdir()
    parser = tmp_path / "apparmor_parser"
    parser.write_text(PARSER_SAYS.format(folder=tmp_path))
    parser.chmod(0o755)
    for name, value in (("ENABLED", "enabled"), ("KERNEL", "kernel"), ("FOLDER", "rules")):
        monkeypatch.setattr(apparmor, name, tmp_path / value)
    monkeypatch.setattr(apparmor, "PARSER_PATH", str(tmp_path))
    return tmp_path


def load(host: Path, line: str) -> None:
    (host / "kernel" / "profiles").write_text(f"man_filter (enforce)\n{line}\n")


def calls(host: Path) -> list[str]:
    path = host / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"disks": [{"path": "/images/a.img"}]},
        {"disks": [{"path": "/images/a.img"}], "qemu_apparmor": "on"},
        {"guest_initrd": "/var/lib/with a space/initrd", "shm_dir": "/dev/shm/x-y_z"},
    ],
)
def test_debians_parser_takes_it(tmp_path, more):
    path = tmp_path / "profile"
    path.write_text(apparmor.profile(config(**more)))
    words = [tree() / PARSER, "--skip-kernel-load", "--skip-cache", "--base", tree() / RULES, path]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_it_names_this_vms_files_and_no_others():
    text = apparmor.profile(config(disks=[{"path": "/images/a.img"}], qemu_apparmor="on"))
    made = config()
    assert f'"{made.ram_path}" rw,' in text and f'"{made.overlay_path}/*" rwk,' in text
    assert "/images" not in text, "it gets its images open"
    assert f"profile plover-qemu-{made.name} {{" in text and f"local/plover-qemu-{made.name}" in text
    assert " inet" not in text and "capability" not in text and " ix" not in text


def test_a_path_behind_links_and_one_that_would_be_a_pattern(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert f'"{tmp_path}/real/kernel" r,' in apparmor.profile(config(guest_kernel=f"{tmp_path}/link/kernel"))
    (tmp_path / "a\nb").mkdir()
    (tmp_path / "odd").symlink_to(tmp_path / "a\nb")
    for bad in ("/boot/*", '/boot/"a', "/boot/{a,b}", f"{tmp_path}/odd/kernel", "/boot/@{HOME}"):
        with pytest.raises(QemuError, match="guest_kernel: AppArmor cannot take"):
            apparmor.profile(config(guest_kernel=bad))


def test_it_is_loaded_once_and_again_if_it_differs(host):
    made = config()
    path = host / "rules" / f"plover-qemu-{made.name}"
    apparmor.make(made)
    assert calls(host) == [f"--replace --skip-cache {path}"] and path.stat().st_mode & 0o777 == 0o644
    load(host, f"plover-qemu-{made.name} (enforce)")
    apparmor.make(made)
    assert len(calls(host)) == 1
    apparmor.make(config(guest_kernel="/other"))
    assert len(calls(host)) == 2 and "/other" in path.read_text()
    (host / "kernel" / "profiles").unlink()
    apparmor.make(config(guest_kernel="/other"))
    assert len(calls(host)) == 3, "after a boot the kernel has none"


def test_off_takes_it_away(host):
    made = config()
    apparmor.make(made)
    load(host, f"plover-qemu-{made.name} (enforce)")
    off = config(qemu_apparmor="off")
    apparmor.make(off)
    assert list((host / "rules").iterdir()) == [] and (host / "kernel" / ".remove").read_text() == f"plover-qemu-{made.name}"
    assert apparmor.wanted(off) == "", "even while the kernel still has it"
    (host / "kernel" / "profiles").unlink()
    apparmor.make(off)


def test_it_is_entered_where_it_is_enforced(host):
    made = config()
    assert apparmor.wanted(made) == ""
    load(host, f"plover-qemu-{made.name} (complain)")
    assert apparmor.wanted(made) == ""
    load(host, f"plover-qemu-{made.name} (enforce)")
    assert apparmor.wanted(made) == f"plover-qemu-{made.name}"


def test_on_refuses_a_host_that_cannot(host):
    on = config(qemu_apparmor="on")
    for change, why in (
        (lambda: None, "its profile is not loaded; see 'journalctl -u plover-replica@"),
        (lambda: (host / "apparmor_parser").unlink(), "install the package apparmor"),
        (lambda: (host / "enabled").write_text("N\n"), "boot with apparmor=1"),
        (lambda: (host / "enabled").unlink(), "its kernel has no AppArmor"),
    ):
        change()
        with pytest.raises(QemuError, match="qemu_apparmor: is on, but this host cannot confine QEMU") as error:
            apparmor.wanted(on)
        assert why in str(error.value) and str(error.value).endswith("or set it to auto")
    apparmor.make(on)  # says nothing, as the start of QEMU will
    assert calls(host) == []


def test_a_profile_that_is_refused_is_told(host):
    (host / "fails").touch()
    with pytest.raises(QemuError, match="cannot be loaded: syntax error"):
        apparmor.make(config())


def test_what_confines_a_process(monkeypatch):
    assert apparmor.of_process(1) == apparmor.of_process(1 << 30) == ""
