# SPDX-License-Identifier: GPL-3.0-or-later
"""Where QEMU forgets a flush that failed, the library that does not is asked for and looked for."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from types import SimpleNamespace

import pytest
from plover.config.settings import Config
from plover.core.disk_marks import MISSED, WHOLE, Mark
from plover.disks.images import arguments
from plover.disks.marks import DiskMarks
from plover.errors import QemuError
from plover.qemu import vm
from plover.qemu.launch_file import FLUSH_FILE
from plover.qemu.process import check_flushes, environment, flush_failed, prepare
from plover.replica.disk_work import DiskWork
from settings import settings

from lab.paths import ROOT

NONE, WRITEBACK = {"path": "/images/a.img", "cache": "none"}, {"path": "/images/b.img"}


@pytest.fixture
def built(monkeypatch):
    subprocess.run(["make", "-s", "-C", str(ROOT / "native")], check=True)
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(ROOT / "native/build"))


@pytest.mark.parametrize("disks, wanted", [([], False), ([WRITEBACK], False), ([WRITEBACK, NONE], True)])
def test_qemu_gets_the_library_with_a_disk_that_is_not_buffered(disks, wanted):
    asked = environment(Config(settings("primary", disks=disks, syncvm_dirty_tracking="scan")))
    assert sorted(asked) == (["LD_PRELOAD", "PLOVER_FLUSH_FD"] if wanted else [])


def test_dirty_tracking_needs_it_too():
    asked = environment(Config(settings("primary", disks=[NONE], syncvm_dirty_tracking="uffd-wp")))
    assert sorted(asked) == ["LD_PRELOAD", "PLOVER_FLUSH_FD", "PLOVER_UFFD_DEVICE_FD", "PLOVER_UFFD_FD"]


def test_a_host_without_it_starts_no_vm_that_needs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(tmp_path))
    with pytest.raises(QemuError, match=r"libplover_preload.so is missing .*'cache: none' needs it; role 'native' installs it"):
        prepare(Config(settings("primary", disks=[NONE], guest_kernel="/bin/true", qemu_binary="/bin/true")), incoming=False)


def test_a_qemu_that_has_not_loaded_it_is_refused(built):
    needs, other = (Config(settings("primary", disks=[disk])) for disk in (NONE, WRITEBACK))
    check_flushes(other, os.getpid())
    with pytest.raises(QemuError, match="QEMU has not loaded .*libplover_preload.so, which 'cache: none' needs"):
        check_flushes(needs, os.getpid())
    with subprocess.Popen(["cat"], env={**os.environ, **environment(needs)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"it runs")
        process.stdin.flush()
        process.stdout.read(1)
        check_flushes(needs, process.pid)
        process.stdin.close()
    with pytest.raises(QemuError, match="cannot see whether QEMU has loaded"):
        check_flushes(needs, process.pid)


def test_a_program_of_qemus_does_not_get_it(built):
    config = Config(settings("primary", disks=[NONE]))
    words = ["sh", "-c", "env"]
    assert "LD_PRELOAD" not in subprocess.run(words, env={**os.environ, **environment(config)}, capture_output=True, text=True).stdout


def test_images_are_flushed_in_the_way_that_the_library_sees():
    words = arguments(Config(settings("primary", disks=[NONE, WRITEBACK])), incoming=True)
    nodes = [json.loads(word) for before, word in zip(words, words[1:]) if before == "-blockdev"]
    assert [node["file"]["aio"] for node in nodes if node["node-name"].startswith("disk")] == ["threads", "threads"]


# --- what it tells of the QEMU before, or of this one ---


@pytest.fixture
def config(tmp_path):
    """An image that is whole."""
    (tmp_path / "a.img").write_bytes(bytes(512))
    out = Config(settings("secondary", run_dir=str(tmp_path), state_dir=str(tmp_path), disks=[{**NONE, "path": str(tmp_path / "a.img")}]))
    out.run_path.mkdir()
    DiskMarks(out).set(WHOLE, 7)
    return out


def started(config: Config, monkeypatch, incoming: bool) -> None:
    """Up to where QEMU would be prepared."""

    def stop(*_words: object) -> None:
        raise QemuError("so far")

    monkeypatch.setattr(vm, "prepare", stop)

    async def start() -> None:
        machine = vm.Vm(config, lambda data: None, lambda why: None, lambda why: None)
        with pytest.raises(QemuError, match="so far"):
            await machine.start(incoming, 8)

    asyncio.run(start())


@pytest.mark.parametrize("told, mark", [("", WHOLE), ("error 5\n", MISSED)])
def test_a_secondary_whose_qemu_ended_with_a_failed_flush_keeps_no_copy(config, monkeypatch, told, mark):
    """Whoever ended that QEMU may have heard of the flush when this host had not."""
    (config.run_path / FLUSH_FILE).write_text(told)
    started(config, monkeypatch, incoming=True)
    assert [found.state for found in DiskMarks(config).read()] == [mark]


def test_a_vm_that_boots_goes_on_from_what_its_guest_was_told(config, monkeypatch):
    (config.run_path / FLUSH_FILE).write_text("error 5\n")
    started(config, monkeypatch, incoming=False)
    assert [found.state for found in DiskMarks(config).read()] == [WHOLE]


def test_buffered_images_are_judged_by_the_daemons_own_sync(tmp_path):
    config = Config(settings("primary", run_dir=str(tmp_path), disks=[WRITEBACK]))
    config.run_path.mkdir()
    (config.run_path / FLUSH_FILE).write_text("error 5\n")
    assert not flush_failed(config)


def test_a_copy_during_which_a_flush_failed_is_none(config):
    """The flush may have been the leader's, and the daemon's own sync would succeed."""
    answers: list[tuple] = []
    shell = SimpleNamespace(config=config, core=SimpleNamespace(consensus=SimpleNamespace(view=9), marks=(), copies_failed=0))
    shell.answer, shell.spawn, shell.links = lambda *words: answers.append(words), answers.append, SimpleNamespace()
    work = DiskWork(shell)
    shell.vm = SimpleNamespace(images=work.new_images())
    shell.vm.images.begin(9)
    (config.run_path / FLUSH_FILE).write_text("error 5\n")
    asyncio.run(work._note_copy(shell.vm))
    assert answers == [("copy_lost", None, "a flush of QEMU's failed meanwhile")]
    assert DiskMarks(config).read() == (Mark(MISSED, 9),)
