# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM may boot from, and what QEMU is told of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os

import pytest
from plover.config.settings import Config
from plover.errors import ConfigError, QemuError
from plover.qemu import boot, launch_file
from plover.qemu.process import command_line
from support.settings import settings

DISK, OTHER = {"path": "/images/a.img"}, {"path": "/images/b.img"}
IDE = [{"path": f"/images/{n}", "bus": "ide"} for n in range(5)]


def made(**values):
    return Config(settings("primary", **{"guest_kernel": "", **values}))


@pytest.mark.parametrize(
    "values, words",
    [
        ({}, "guest_kernel: is missing, and there is no other thing to boot from; give a kernel, a disk in disks, or guest_cdrom"),
        ({"guest_initrd": "/i"}, "guest_kernel: is missing"),
        ({"disks": [DISK], "guest_initrd": "/i"}, "guest_initrd: is for a VM with guest_kernel; remove it, or give the kernel as well"),
        ({"disks": [DISK], "guest_cmdline": "quiet"}, "guest_cmdline: is for a VM with guest_kernel"),
        ({"disks": [DISK], "guest_boot": "cdrom"}, "guest_boot: is cdrom, but there is none; give guest_cdrom, or set it to disk"),
        ({"guest_kernel": "/k", "guest_cdrom": "/c", "guest_boot": "cdrom"}, "guest_boot: is cdrom, but guest_kernel is what boots"),
        ({"disks": IDE[:5]}, "disks: 5 on bus ide are too many; the machine has room for 4 drives; give some bus virtio-scsi"),
        ({"disks": IDE[:4], "guest_cdrom": "/c"}, "disks: 4 on bus ide and the CD are too many; the machine has room for 4 drives"),
    ],
)
def test_what_cannot_boot_is_refused_in_one_line(values, words):
    with pytest.raises(ConfigError) as refused:
        made(**values)
    assert str(refused.value).startswith(words) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "values, order",
    [
        ({"disks": [DISK]}, {"drive0": 1}),
        ({"disks": [DISK, OTHER]}, {"drive0": 1}),
        ({"guest_cdrom": "/c.iso"}, {"cdrom": 2}),
        ({"disks": [DISK], "guest_cdrom": "/c.iso"}, {"drive0": 1, "cdrom": 2}),
        ({"disks": [DISK], "guest_cdrom": "/c.iso", "guest_boot": "cdrom"}, {"drive0": 1, "cdrom": 0}),
        ({"disks": [DISK], "guest_seed": "/s"}, {"drive0": 1}),
        ({"disks": [{**DISK, "bus": "virtio-scsi"}]}, {"drive0": 1}),
        ({"guest_kernel": "/k", "disks": [DISK], "guest_cdrom": "/c.iso", "guest_seed": "/s"}, {}),
    ],
)
@pytest.mark.parametrize("incoming", [False, True])
def test_the_boot_order_is_that_of_the_settings_and_no_other_drive_boots(values, order, incoming):
    config = made(**values)
    words = command_line(config, incoming)
    devices = [dict(part.partition("=")[::2] for part in word.split(",")) for at, word in zip(words, words[1:]) if at == "-device"]
    assert {device["id"]: int(device["bootindex"]) for device in devices if "bootindex" in device} == order
    assert ("strict=on" in words) == (not config.guest_kernel) == ("-kernel" not in words)


@pytest.mark.parametrize("key, fd, number", [("guest_cdrom", 28, 2), ("guest_seed", 29, 3)])
def test_a_drive_that_is_only_read_is_a_descriptor_without_a_name(key, fd, number):
    config = made(disks=[DISK], **{key: "/srv/with-a-password"})
    words = command_line(config, True)
    assert launch_file.descriptors(config)[fd] == ("image to read", "/srv/with-a-password")
    assert f"fd={fd},set={number}" in words and "/srv" not in " ".join(words)
    (node,) = [json.loads(word) for word in words if f"/dev/fdset/{number}" in word]
    assert node["read-only"] is node["file"]["read-only"] is True


def test_a_vm_with_a_kernel_has_the_command_line_that_it_had():
    words = command_line(Config(settings("primary", guest_initrd="/i", guest_cmdline="quiet")), False)
    assert words[-6:] == ["-kernel", "/proc/self/fd/23", "-initrd", "/proc/self/fd/24", "-append", "quiet"]
    assert "-boot" not in words and "virtio-scsi" not in " ".join(words) and "rng" not in " ".join(words)


class FdSets:
    """Of QEMU's monitor what the facts need: this process is the QEMU."""

    pid = os.getpid()

    def __init__(self, **sets):
        self._sets = [{"fdset-id": int(number.strip("_")), "fds": [{"fd": fd}]} for number, fd in sets.items()]

    async def execute(self, command):
        assert command == "query-fdsets"
        return self._sets


def test_the_facts_are_of_the_file_that_qemu_has_open_whatever_its_number(tmp_path):
    """Not of the one that is in its place by now."""
    path = tmp_path / "seed"
    path.write_bytes(b"old")
    config = made(disks=[DISK], guest_seed=str(path), guest_rng=True)
    with open(path, "rb") as seed, open(os.devnull, "rb") as other:
        path.unlink()
        path.write_bytes(b"new")
        found = asyncio.run(boot.facts(config, FdSets(_2=other.fileno(), _3=seed.fileno())))
    assert found == {"guest_rng": True, "guest_seed_sha256": hashlib.sha256(b"old").hexdigest()}
    assert asyncio.run(boot.facts(made(disks=[DISK]), FdSets())) == {}
    with pytest.raises(QemuError, match="guest_seed: cannot be read"):
        asyncio.run(boot.facts(config, FdSets()))


def test_as_many_ide_drives_as_the_machine_has_room_for():
    assert made(disks=IDE[:4]) and made(disks=IDE[:3], guest_cdrom="/c")
