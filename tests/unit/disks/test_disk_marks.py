# SPDX-License-Identifier: GPL-3.0-or-later
"""The marks on images: whenever the power goes, an image that must not be booted says so."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from types import SimpleNamespace

import pytest
from marked_image import CONFIG, PATH, Host, PowerLoss
from plover.config.settings import Config
from plover.core.disk_marks import (
    INCOMPLETE,
    LIVE,
    MERGING,
    MISSED,
    UNREADABLE,
    WHOLE,
    Mark,
    parse,
    why_no_source,
    why_torn,
    worse,
)
from plover.disks.image_files import ImageFiles
from plover.disks.local_images import LocalImages
from plover.disks.marks import ATTRIBUTE, FILE, DiskMarks
from plover.errors import LostWritesError
from plover.replica.disk_work import DiskWork
from settings import settings


def filled(host: Host) -> None:
    """A secondary's image becomes the leader's of view 7."""
    marks = host.marks
    copy = LocalImages(CONFIG, "boot", marks, host)
    copy.begin(7)
    copy.torn(7)
    host.tear()
    copy.write(7)


def promoted(host: Host) -> None:
    """What was in the overlays comes into the image."""
    marks = host.marks
    LocalImages(CONFIG, "boot", marks, host).promoted(8)
    host.tear()
    host.sync(PATH)
    marks.set(LIVE, 8)


def failed_over(host: Host) -> None:
    filled(host)
    promoted(host)


def come_back(host: Host) -> None:
    """A leader of view 6 is a secondary of view 7 next."""
    host.marks.set(LIVE, 6)
    filled(host)


@pytest.mark.parametrize("carries", [True, False])
@pytest.mark.parametrize("life", [filled, promoted, failed_over, come_back])
def test_a_torn_image_says_so_whenever_the_power_goes(life, carries):
    seen, ended = set(), False
    for steps in range(100):
        host = Host(carries=carries)
        host.steps = steps
        try:
            life(host)
            ended = True
        except PowerLoss:
            pass
        for after in host.power_losses():
            mark = after.marks.now[0]
            seen.add((after.disk["image"], mark.state))
            assert after.disk["image"] != "torn" or mark.torn, (steps, after.disk)
        if ended:
            break
    assert ended
    assert {("old", "unmarked"), ("new", WHOLE if life is filled else seen and host.marks.now[0].state)} <= seen
    assert not host.marks.now[0].torn


def test_a_mark_that_warns_does_not_wait_for_what_is_to_be_written_to_the_image():
    host = Host()
    host.tear()
    host.failing = {"sync image": errno.EIO}
    host.marks.set(MERGING, 3)
    assert [after.marks.now for after in host.power_losses()] == [(Mark(MERGING, 3),)] * len(host.power_losses())


@pytest.mark.parametrize("failing", ["sync image", "put", "write", "sync"])
def test_a_mark_that_clears_and_fails_leaves_the_image_torn(failing):
    host = Host()
    host.marks.set(INCOMPLETE, 3)
    marks, host.failing = host.marks, {failing: errno.EIO}
    with pytest.raises((OSError, LostWritesError), match="Input/output error"):
        marks.set(WHOLE, 3)
    assert marks.now == host.marks.now == (Mark(INCOMPLETE, 3),)


def test_without_a_durable_warning_nothing_is_marked():
    host = Host()
    host.failing = {"write": errno.ENOSPC}
    marks = host.marks
    with pytest.raises(OSError, match="No space left"):
        marks.set(MERGING, 3)
    assert marks.now == (Mark(),)


# --- a disk that loses what was written to it ---


def copy_of(host: Host) -> LocalImages:
    return LocalImages(CONFIG, "boot", host.marks, host)


@pytest.mark.parametrize("state_fails", [False, True])
def test_a_copy_whose_sync_fails_is_none_and_the_next_one_is_whole(state_fails):
    """What Linux has thrown away stays lost, also where the next fsync succeeds."""
    host = Host()
    copy_of(host).write(6)
    marks = host.marks
    broken = LocalImages(CONFIG, "boot", marks, host)
    assert len(broken.begin(7)) == 1
    broken.torn(7)
    host.failing = {"sync image": errno.EIO, **({"write": errno.ENOSPC} if state_fails else {})}
    with pytest.raises(LostWritesError, match="disks are lost: .*Input/output error"):
        broken.write(7)
    host.failing = {}
    assert marks.now == (Mark(MISSED, 7),) and host.marks.now[0].torn
    after = LocalImages(CONFIG, "boot", marks, host)
    assert after.begin(8) == [] and after.read() == []
    after.torn(8)
    assert after.read() == [after.name]  # and of those before it none
    assert after.write(8) and host.marks.now == (Mark(WHOLE, 8),) and copy_of(host).read() == [after.name]


def test_what_was_lost_under_the_qemu_before_is_told_to_the_next_one():
    """QEMU's own flush had the error, or nobody yet: a copy that goes on would never send those blocks again."""
    host = Host()
    first = copy_of(host)
    first.begin(7)
    first.torn(7)
    assert copy_of(host).read() == [first.name]
    second, host.failing = copy_of(host), {"hold": errno.EIO}
    with pytest.raises(LostWritesError, match="write of the QEMU before this one is lost: .*Input/output error"):
        second.begin(7)
    host.failing = {}
    assert host.marks.now == (Mark(MISSED, 7),) and copy_of(host).begin(7) == []


def test_a_merge_whose_sync_fails_never_ends_well():
    host = Host()
    copy, marks = copy_of(host), host.marks
    copy.promoted(8)
    host.failing = {"sync image": errno.EIO}
    with pytest.raises(LostWritesError, match="Input/output error"):
        copy.merged(8)
    host.failing = {}
    assert copy.merged(8) is False and host.marks.now == (Mark(MISSED, 8),) and marks.now == (Mark(),)


def ends_a_merge(copy: LocalImages) -> None:
    copy.promoted(8)
    copy.merged(8)


def ends_a_copy(copy: LocalImages) -> None:
    copy.begin(8)
    copy.torn(8)
    copy.write(8)


@pytest.mark.parametrize("ends", [ends_a_merge, ends_a_copy, lambda copy: copy.booted(8)], ids=["merge", "copy", "boot"])
def test_the_sync_of_a_mark_that_fails_is_one_of_the_image(ends):
    """It has the error of whatever was written to the image since the sync before: the next one that succeeds proves nothing."""
    host = Host()
    copy_of(host).write(7)
    host.fails_after_put = f"{LIVE} 8", f"{WHOLE} 8"
    marks = host.marks
    with pytest.raises(LostWritesError, match="disks are lost: .*Input/output error"):
        ends(LocalImages(CONFIG, "boot", marks, host))
    host.failing, host.fails_after_put = {}, ()
    assert marks.now == host.marks.now == (Mark(MISSED, 8),)
    after = LocalImages(CONFIG, "boot", marks, host)
    assert after.merged(9) is False and after.begin(9) == []


@pytest.mark.parametrize("cache", ["none", "writeback"])
def test_what_the_leader_wrote_is_saved_by_a_flush_of_our_own_where_qemu_forgets_that_one_failed(cache):
    host = Host()
    host.marks.set(WHOLE, 7)
    config = SimpleNamespace(disk_list=[CONFIG.disk_list[0]._replace(cache=cache)])
    copy = LocalImages(config, "boot", host.marks, host)
    copy.promoted(8)
    host.failing = {"sync image": errno.EIO}
    with pytest.raises(LostWritesError) if cache == "none" else contextlib.nullcontext():
        copy.save_replicated(8)
    host.failing = {}
    assert host.marks.now == (Mark(MISSED if cache == "none" else MERGING, 8),)
    assert copy.merged(8) is (cache == "writeback")


def test_a_merge_that_cannot_be_marked_is_no_lost_write():
    host = Host()
    copy = copy_of(host)
    copy.promoted(8)
    host.failing = {"write": errno.ENOSPC}
    with pytest.raises(OSError, match="No space left"):
        copy.merged(8)
    assert host.marks.now == (Mark(MERGING, 8),)
    host.failing = {}
    assert copy.merged(8) and host.marks.now == (Mark(LIVE, 8),)


def test_a_copy_that_ends_after_a_promotion_changes_nothing():
    host = Host()
    copy = copy_of(host)
    copy.begin(7)
    copy.torn(7)
    copy.promoted(8)
    assert copy.write(8) and host.marks.now == (Mark(MERGING, 8),) and copy_of(host).read() == []
    assert copy.merged(8) and host.marks.now == (Mark(LIVE, 8),) and copy_of(host).read() == []


@pytest.mark.parametrize("node, ours", [("image0", True), ("peer0", False), ("nbd0", False)])
def test_only_a_write_that_our_own_image_missed_marks_it(tmp_path, node, ours):
    """While both images are written to, QEMU tells of either; the other host's is no reason never to copy ours again."""
    image = tmp_path / "a.img"
    image.write_bytes(bytes(512))
    config = Config(settings("primary", disks=[{"path": str(image)}], state_dir=str(tmp_path / "state")))

    class Replica:
        def __init__(self) -> None:
            self.config, self.spawned, self.answers = config, [], []
            self.core = SimpleNamespace(consensus=SimpleNamespace(view=9), marks=())
            self.spawn, self.links = self.spawned.append, SimpleNamespace()
            self.work = DiskWork(self)
            self.vm = SimpleNamespace(images=self.work.new_images(), block=SimpleNamespace(hides_errors=True))

        def answer(self, *words: object) -> None:
            self.answers.append(words)

    replica = Replica()
    replica.work._error(replica.vm, "QUORUM_REPORT_BAD", {"node-name": node, "type": "flush", "error": "EIO"})
    assert replica.answers == [("disk_failed", node, "EIO", True)]
    for work in replica.spawned:
        asyncio.run(work)
    assert DiskMarks(config).read() == ((Mark(MISSED, 9),) if ours else (Mark(),))


def test_an_image_is_asked_through_the_descriptor_that_was_open_before(tmp_path):
    """Linux tells only that one of what was lost meanwhile, once somebody else has been told."""
    image = tmp_path / "a.img"
    image.write_bytes(b"x")
    files = ImageFiles()
    files.hold([str(image)])
    held = files._held[str(image)]
    assert os.fstat(held).st_ino == image.stat().st_ino
    files.sync(str(image))
    files.hold([str(image)])
    assert list(files._held) == [str(image)]
    os.close(files._held[str(image)])  # a descriptor that fails
    with pytest.raises(OSError, match="Bad file descriptor"):
        files.sync(str(image))


def test_the_worse_of_two_marks_counts():
    assert worse(Mark(WHOLE, 9), Mark(MERGING, 3)) == Mark(MERGING, 3)
    assert worse(Mark(MISSED, 3), Mark(INCOMPLETE, 9)) == Mark(MISSED, 3)
    assert worse(Mark(LIVE, 3), Mark(WHOLE, 9)) == Mark(WHOLE, 9)
    assert worse(Mark(), Mark(LIVE, 0)) == Mark(LIVE, 0)


def test_a_lost_state_folder_and_a_moved_image_are_known_by_the_other_mark():
    host = Host()
    host.marks.set(MERGING, 3)
    host.sync(PATH)
    del host.disk[FILE]
    assert host.marks.now == (Mark(MERGING, 3),)
    host = Host()
    host.marks.set(MERGING, 3)
    host.waiting.append((ATTRIBUTE, None))
    assert host.marks.now == (Mark(MERGING, 3),)


@pytest.mark.parametrize("text", ["merging", "merging x", "merging -1", "burning 7", "merging 7 8", "\x00", "m" * 9999])
def test_a_mark_that_cannot_be_read_warns(text):
    assert parse(text) == Mark(UNREADABLE) and parse(text).torn
    host = Host()
    host.disk[ATTRIBUTE] = text
    assert host.marks.now == (Mark(UNREADABLE),)


@pytest.mark.parametrize("text", ["", "\n", "{}", "[]\n0", '{"/images/a.img": 7}\n12345678', "x\n\n"])
def test_a_damaged_file_of_marks_warns_and_is_written_anew(text):
    host = Host()
    host.disk[FILE] = text
    assert host.marks.now == (Mark(UNREADABLE),)
    host.marks.set(WHOLE, 4)
    assert host.marks.now == (Mark(WHOLE, 4),)


def test_what_marks_say():
    marks = (Mark(LIVE, 4), Mark(MERGING, 5), Mark(MISSED, 6))
    assert why_torn(marks) == (
        "disks[1] is torn: its VM's last writes were being merged into it after the failover to view "
        "5; disks[2] is torn: it missed a write in view 6"
    )
    assert why_no_source(marks) == "disks[2] is torn: it missed a write in view 6"
    assert why_torn((Mark(), Mark(LIVE, 1), Mark(WHOLE, 2))) == "" == why_no_source((Mark(INCOMPLETE, 3), Mark(MERGING, 3)))


def test_a_real_file_carries_its_mark(tmp_path):
    image = tmp_path / "a.img"
    image.write_bytes(bytes(512))
    config = Config(settings("primary", disks=[{"path": str(image)}], state_dir=str(tmp_path / "state")))
    marks = DiskMarks(config)
    assert marks.read() == (Mark(),)
    marks.set(MERGING, 5)
    assert os.getxattr(image, ATTRIBUTE) == b"merging 5" and DiskMarks(config).read() == (Mark(MERGING, 5),)
    marks.set(LIVE, 5)
    assert os.getxattr(image, ATTRIBUTE) == b"live 5" and DiskMarks(config).read() == (Mark(LIVE, 5),)
    image.unlink()
    assert DiskMarks(config).read() == (Mark(LIVE, 5),)  # prepare() says that it is missing
