# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks: their settings, QEMU's arguments, the images' hashes, and what the core asks for when, with a disk and without."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from types import SimpleNamespace

import pytest
from plover.config.disks import parse
from plover.config.settings import Config
from plover.core.disk_writes import DiskWrites
from plover.disks.images import (
    IMAGE_BLOCK_BYTES,
    IMAGE_BLOCKS_MAX,
    arguments,
    hash_blocks,
    hashed_bytes,
    image_block_bytes,
    prepare,
    virtual_size,
)
from plover.disks.local_images import NAMES_MAX, LocalImages
from plover.errors import ConfigError, QemuError
from plover.ports import effects
from plover.protocol import codec, wire
from settings import settings

from tests.sim.blocks import BLOCKS
from tests.sim.rig import Rig, protected
from tests.sim.watch import DOES

pytestmark = pytest.mark.usefixtures("small_pages")

DISK = {"path": "/images/a.img"}


# --- settings ---


@pytest.mark.parametrize(
    "disks, wrong",
    [
        ([{}], r"disks\[0\]: must be an object with at least 'path'"),
        (["/images/a"], r"disks\[0\]: must be an object"),
        ([{"path": "images/a"}], r"disks\[0\].path: 'images/a' must be an absolute path"),
        ([{"path": "/images/a,b"}], r"disks\[0\].path: .* must be an absolute path"),
        ([{"path": 7}], r"disks\[0\].path: must be a string"),
        ([DISK, DISK], "two disks have the same path"),
        ([{**DISK, "size": "1G"}], r"disks\[0\].size: unknown; known are path, format"),
        ([{**DISK, "format": "vmdk"}], r"disks\[0\].format: 'vmdk' is not one of raw, qcow2"),
        ([{**DISK, "cache": "unsafe"}], r"disks\[0\].cache: 'unsafe' is not one of writeback, none"),
        ([{**DISK, "bus": "floppy"}], r"disks\[0\].bus: 'floppy' is not one of virtio-blk, virtio-scsi, ide"),
        ([{**DISK, "serial": "a b"}], r"disks\[0\].serial: 'a b' must be at most 20"),
        ([{"path": f"/images/{n}"} for n in range(17)], "17 are too many; at most 16"),
    ],
)
def test_a_wrong_disk_is_refused_by_its_name(disks, wrong):
    with pytest.raises(ConfigError, match=wrong):
        Config(settings("primary", disks=disks))


def test_a_port_of_the_disks_in_an_old_config_is_accepted_whatever_it_is():
    assert Config(settings("primary", disks=[DISK], port=7421, disk_port=7421)).disk_port == 7421


# --- QEMU's arguments ---


def graph(config: Config, incoming: bool) -> dict[str, dict]:
    words = arguments(config, incoming)
    nodes = [json.loads(words[n + 1]) for n, word in enumerate(words) if word == "-blockdev"]
    return {node["node-name"]: node for node in nodes}


def test_the_guest_sees_the_same_devices_on_both_hosts():
    config = Config(settings("primary", disks=[{**DISK, "serial": "s1"}, {"path": "/images/b.img", "bus": "ide"}]))
    devices = [
        [words[n + 1] for n, word in enumerate(words) if word == "-device"] for words in (arguments(config, False), arguments(config, True))
    ]
    assert devices[0] == devices[1] == ["virtio-blk-pci,id=drive0,drive=top0,serial=s1", "ide-hd,id=drive1,drive=top1"]


def test_a_secondary_writes_into_overlays_only():
    config = Config(settings("primary", disks=[DISK], disk_overlay_dir="/overlays"))
    assert list(graph(config, False)) == ["disk0", "image0", "top0"]
    nodes = graph(config, True)
    assert nodes["top0"]["children"] == ["image0"] and nodes["image0"]["file"] == "repl0"
    assert nodes["repl0"]["file"] == "active0"
    assert nodes["active0"]["backing"] == "hidden0" and nodes["hidden0"]["backing"] == "disk0"
    assert nodes["repl0"]["top-id"] == "top0" and nodes["repl0"]["mode"] == "secondary"
    assert {nodes[n]["file"]["filename"] for n in ("active0", "hidden0")} == {
        "/overlays/demo.disks/active0.qcow2",
        "/overlays/demo.disks/hidden0.qcow2",
    }


def test_no_disks_no_arguments():
    assert arguments(Config(settings("primary")), True) == []


# --- images ---


def config_of(folder: Path, *sizes: int) -> Config:
    for n, size in enumerate(sizes):
        (folder / f"{n}.img").write_bytes(bytes(size))
    return Config(
        settings(
            "primary",
            disks=[{"path": str(folder / f"{n}.img")} for n in range(len(sizes))],
            disk_overlay_dir=str(folder),
            state_dir=str(folder / "state"),
        )
    )


def test_overlays_are_made_anew_and_as_long_as_the_image(tmp_path):
    config = config_of(tmp_path, 1 << 20)
    prepare(config, True)
    path = tmp_path / "demo.disks" / "active0.qcow2"
    path.write_bytes(b"left by the QEMU before")
    prepare(config, True)
    assert virtual_size(parse([{"path": str(path), "format": "qcow2"}])[0]) == 1 << 20
    prepare(config, False)  # a leader needs none
    assert not path.exists()


@pytest.mark.parametrize("size, wrong", [(0, "has 0 bytes"), (1000, "no whole number of 512-byte sectors|1024")])
def test_an_image_of_a_wrong_length_is_refused_or_rounded(tmp_path, size, wrong):
    config = config_of(tmp_path, size)
    if size:  # QEMU itself counts the last sector as whole
        assert virtual_size(config.disk_list[0]) == 1024
    else:
        with pytest.raises(QemuError, match=wrong):
            prepare(config, True)


def test_a_missing_image_is_refused_with_the_remedy(tmp_path):
    config = config_of(tmp_path, 512)
    (tmp_path / "0.img").unlink()
    with pytest.raises(QemuError, match=r"disks\[0\].path: .* is missing or not writable on this host; role 'disks'"):
        prepare(config, False)


def test_every_block_of_every_image_is_hashed(tmp_path):
    config = config_of(tmp_path, 3 * IMAGE_BLOCK_BYTES + 512, IMAGE_BLOCK_BYTES)
    before = array("Q", hash_blocks(config, lambda block: hash(bytes(block)) & (1 << 64) - 1))
    assert len(before) == 5
    with open(tmp_path / "0.img", "r+b") as file:
        file.seek(3 * IMAGE_BLOCK_BYTES + 511)
        file.write(b"x")
    after = array("Q", hash_blocks(config, lambda block: hash(bytes(block)) & (1 << 64) - 1))
    assert [n for n in range(5) if before[n] != after[n]] == [3]


def test_a_comparison_of_the_images_counts_what_it_has_read(tmp_path):
    config = config_of(tmp_path, 3 * IMAGE_BLOCK_BYTES + 512, IMAGE_BLOCK_BYTES)
    counted = []
    hash_blocks(config, lambda block: 0, counted.append)
    assert sum(counted) == hashed_bytes(config) == 4 * IMAGE_BLOCK_BYTES + 512 and len(counted) == 5
    (tmp_path / "1.img").unlink()
    assert hashed_bytes(config) == 3 * IMAGE_BLOCK_BYTES + 512


def test_hashes_of_a_large_image_fit_into_a_message():
    assert image_block_bytes(1 << 30) == IMAGE_BLOCK_BYTES
    for size in (1 << 40, 100 << 40):
        assert size // image_block_bytes(size) <= IMAGE_BLOCKS_MAX
    assert 16 * 8 * IMAGE_BLOCKS_MAX < codec.BODY_BYTES_MAX


# --- the core ---


@pytest.fixture
def group():
    return protected(disks=[DISK])


def test_disks_are_copied_before_memory_and_attached_while_the_vm_stands(group):
    done = [
        name
        for name in group["primary"].done
        if name in ("OpenTracker", "CopyDisks", "StopVm", "AttachDisks", "CaptureStream", "ContVm", "SendData")
    ]
    order = [name for name in done[: done.index("ContVm") + 1] if name != "SendData"]
    assert order == ["OpenTracker", "CopyDisks", "StopVm", "AttachDisks", "CaptureStream", "ContVm"]


def test_without_disks_nothing_is_copied_or_attached():
    group = protected()
    assert not {"CopyDisks", "AttachDisks", "DetachDisks"} & set(group["primary"].done)


@pytest.mark.parametrize("disks", [[], [DISK]])
def test_the_vm_runs_on_before_the_secondary_has_loaded_and_with_a_disk_its_writes_wait(disks):
    group = protected(disks=disks)
    leader = group["primary"]
    late = leader.hold(wire.Applied)
    leader.done.clear()
    group.write(7)
    group.until(lambda: late)
    group.run(0.05)
    assert "Emit" in leader.done and "ContVm" in leader.done and "PassWrites" not in leader.done
    if disks:
        assert leader.done.index("HoldWrites") < leader.done.index("ContVm")
    leader.let_go(wire.Applied)
    group.run(0.05)
    assert ("PassWrites" in leader.done) == ("HoldWrites" in leader.done) == bool(disks)


@pytest.mark.parametrize("all_sent", [False, True])
def test_writes_that_wait_pass_only_if_the_secondary_cannot_load_what_was_given_up(all_sent):
    emitted = []
    core = SimpleNamespace(config=SimpleNamespace(disks=[DISK]), emit=lambda *made: emitted.extend(type(one).__name__ for one in made))
    writes = DiskWrites(core)
    writes.abandon(all_sent)  # none wait: there is nothing to do
    assert emitted == []
    writes.hold()
    writes.abandon(all_sent)
    assert emitted == ["HoldWrites", "DetachDisks" if all_sent else "PassWrites"]
    writes.go_on()
    assert len(emitted) == 2


def test_a_secondary_that_is_lost_is_detached(group):
    group["primary"].done.clear()
    group.kill("secondary")
    group.run(2.0)
    assert "DetachDisks" in group["primary"].done
    assert group.write(9) is group["primary"]


def test_an_error_of_the_secondarys_image_costs_the_protection_and_no_more(group):
    node = group["primary"]
    node.call("disk_failed", "peer0", "Input/output error")
    assert node.status()["service"] == "degraded"
    assert "does not take our writes to its disks (peer0: Input/output error)" in node.status()["sentence"]
    group.until(group.protected)


def test_an_error_of_the_leaders_own_image_moves_the_vm(group):
    group["primary"].call("disk_failed", "disk0", "Input/output error")
    group.until(lambda: group.serving() is group["secondary"])
    assert any("secondary has it all; handing the VM to secondary" in text for text in group["primary"].reports)


def test_full_overlays_make_a_secondary_start_over(group):
    group["secondary"].call("disk_failed", "active0", "No space left on device")
    group.run(0.1)
    assert group["primary"].status()["service"] == "degraded"
    assert "active0: No space left on device" in group["primary"].status()["sentence"]


def test_much_written_forces_a_syncvm():
    group = protected(disks=[DISK], syncvm_interval_ms_max=60_000)
    leader = group["primary"].core
    group.run(0.5)
    before = leader.totals["syncvms"]
    group.run(0.5)
    assert leader.totals["syncvms"] == before
    group["primary"].call("disk_pressure", 1 << 30)
    group.until(lambda: leader.totals["syncvms"] == before + 1, 0.5)
    group.run(0.5)
    assert leader.totals["syncvms"] == before + 1


@pytest.mark.parametrize("theirs, differ", [(None, 0), (bytes(range(8 * BLOCKS)), BLOCKS), (b"", BLOCKS)])
def test_an_audit_compares_the_disks_while_the_vm_stands(group, theirs, differ):
    if theirs is not None:
        group["secondary"].tells["disks_hashed"] = lambda tag, hashes: (tag, theirs)
    answers = group["primary"].audit(disks=True)
    group.until(lambda: answers)
    assert (answers[0].disk_blocks, answers[0].disk_blocks_mismatching, answers[0].mismatching) == (BLOCKS, differ, 0)
    assert group.write(5) is group["primary"]


@pytest.mark.parametrize("hashed_s", [0.02, 5.0])
def test_a_leader_that_dies_while_the_images_are_compared_is_followed_at_once(group, hashed_s):
    """The VM's state is loaded by then: nothing has to wait for the images, that may be many GiB."""
    held = group["secondary"].hold(effects.HashDisks)
    group["primary"].audit(disks=True)
    group.until(lambda: held)
    group.kill("primary")
    group.until(lambda: group.serving() is group["secondary"] and group.serving().core.leading.serving, 1.0)
    assert group.write(5) is group["secondary"]
    group.run(hashed_s)
    group["secondary"].let_go(effects.HashDisks)
    group.run(0.1)
    assert group.write(6) is group["secondary"]


# --- which copies the images are ---


def test_a_copy_is_known_by_its_name_until_our_own_vm_writes(tmp_path):
    config = config_of(tmp_path, 512, 512)
    copy = LocalImages(config)
    assert copy.begin(7) == []
    copy.write(7)
    assert LocalImages(config).read() == [copy.name]
    copy.booted(8)
    assert LocalImages(config).read() == []
    copy.write(7)  # a thread that was still flushing the images
    assert LocalImages(config).read() == []
    other = LocalImages(config)
    other.write(7)
    assert LocalImages(config).read() == [other.name]


def test_a_copy_that_was_under_way_counts_until_the_host_boots(tmp_path):
    config = config_of(tmp_path, 512)
    whole, broken, last = LocalImages(config, "boot-1"), LocalImages(config, "boot-1"), LocalImages(config, "boot-1")
    whole.write(7)
    assert broken.begin(7) == [whole.name]
    assert last.begin(7) == [whole.name, broken.name]
    assert LocalImages(config, "boot-2").read() == [whole.name]
    last.write(7)
    assert LocalImages(config, "boot-1").read() == [last.name]


def test_names_of_copies_do_not_pile_up(tmp_path):
    config = config_of(tmp_path, 512)
    made = [LocalImages(config, "boot") for _ in range(9)]
    for copy in made:
        copy.begin(7)
    assert LocalImages(config, "boot").read() == [copy.name for copy in made[-NAMES_MAX:]]


def test_what_qemu_keeps_in_memory_is_no_copy(tmp_path):
    config = config_of(tmp_path, 512)
    config = Config(settings("primary", disks=[{"path": config.disk_list[0].path, "format": "qcow2"}], state_dir=str(tmp_path / "state")))
    copy = LocalImages(config)
    copy.begin(7)
    assert LocalImages(config).read() == []
    copy.write(7)
    assert LocalImages(config).read() == [copy.name]


def test_an_image_that_was_put_in_place_of_a_copy_is_none(tmp_path):
    config = config_of(tmp_path, 512, 512)
    copy = LocalImages(config)
    copy.write(7)
    (tmp_path / "1.img").unlink()
    assert LocalImages(config).read() == []
    (tmp_path / "1.img").write_bytes(bytes(512))
    assert LocalImages(config).read() == []


def asked_copies(said: object) -> list[tuple[tuple[str, ...], str]]:
    """What a leader asks to be copied to a joiner that says this of its images."""
    group = Rig(disks=[DISK])
    for seat in (group["primary"], group["secondary"]):
        seat.tells["qemu_ready"] = lambda facts: [{"qemu_version": "7.2.22", "disk_copy": said}]
    group.until(group.protected)
    return [(seen.thing.held, seen.thing.name) for seen in group.all(DOES, effects.CopyDisks)]


def test_the_leader_hears_which_copies_a_joiner_has():
    assert asked_copies({"held": ["a" * 32, "b" * 32], "next": "c" * 32}) == [(("a" * 32, "b" * 32), "c" * 32)]


@pytest.mark.parametrize(
    "nonsense",
    [
        7,
        None,
        "a" * 32,
        ["x"],
        {"a": 1},
        {"held": "a" * 32, "next": "c" * 32},
        {"held": [7], "next": "c" * 32},
        {"held": [], "next": "plover-whole"},
        {"held": ["a" * 32], "next": None},
    ],
)
def test_a_name_that_is_none_means_no_copy(nonsense):
    assert [held for held, name in asked_copies(nonsense)] == [()]
