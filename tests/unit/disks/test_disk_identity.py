# SPDX-License-Identifier: GPL-3.0-or-later
"""One device that was given to both replicas is noticed before anything is copied to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plover.core.join_request import one_for_both
from plover.disks.identity import _of, identity

from tests.sim.rig import Rig

pytestmark = pytest.mark.usefixtures("small_pages")

DISK = {"path": "/dev/lun"}
NAA = "naa.600140512345678900000000000000aa"


class Sysfs:
    """As much of it as block devices have."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._minor = folder, 0
        (folder / "dev" / "block").mkdir(parents=True)

    def add(self, name: str, files: dict[str, str], slaves: tuple[str, ...] = ()) -> int:
        """Returns the device's number. ``name``: of a partition, with its disk's before it."""
        device = self.folder / "devices" / name
        for path, text in files.items():
            (device / path).parent.mkdir(parents=True, exist_ok=True)
            (device / path).write_text(text + "\n")
        device.mkdir(parents=True, exist_ok=True)
        for slave in slaves:
            (device / "slaves").mkdir(exist_ok=True)
            (device / "slaves" / slave.replace("/", "!")).symlink_to(self.folder / "devices" / slave)
        self._minor += 1
        (self.folder / "dev" / "block" / f"8:{self._minor}").symlink_to(device)
        return os.makedev(8, self._minor)


@pytest.fixture
def sysfs(tmp_path):
    return Sysfs(tmp_path)


@pytest.mark.parametrize("file", ["wwid", "device/wwid"])
def test_a_lun_has_the_name_that_its_target_gave_it(sysfs, file):
    assert _of(sysfs.folder, sysfs.add("sda", {file: NAA})) == NAA


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"device/wwid": "t10.ATA     QEMU HARDDISK                           QM00001"},
        {"serial": "disk0"},
        {"loop/backing_file": "/images/a.img"},
        {"wwid": "nvme.1b36-51454d55-51454d55-00000001"},
        {"wwid": ""},
    ],
)
def test_a_name_that_two_devices_may_have_is_none(sysfs, files):
    assert _of(sysfs.folder, sysfs.add("sda", files)) == ""


def test_partitions_of_one_lun_differ(sysfs):
    sysfs.add("sda", {"device/wwid": NAA})
    names = [_of(sysfs.folder, sysfs.add(f"sda/sda{n}", {"partition": str(n)})) for n in (1, 2)]
    assert names == [f"{NAA} partition 1", f"{NAA} partition 2"]


def test_a_volume_is_known_by_its_uuid_and_what_it_lies_on(sysfs):
    """Hosts that were cloned from one image have volumes of one uuid, on disks of their own."""
    sysfs.add("sda", {"device/wwid": NAA})
    sysfs.add("vda", {"serial": ""})
    uuid = {"dm/uuid": "LVM-x"}
    assert _of(sysfs.folder, sysfs.add("dm-0", uuid, ("sda",))) == f"LVM-x on {NAA}"
    assert _of(sysfs.folder, sysfs.add("dm-1", uuid, ("sda", "vda"))) == ""
    assert _of(sysfs.folder, sysfs.add("dm-2", uuid)) == ""


def test_a_volume_that_lies_on_itself_is_no_endless_loop(sysfs):
    assert _of(sysfs.folder, sysfs.add("dm-0", {"dm/uuid": "LVM-x"}, ("dm-0",))) == ""


def test_files_and_what_is_missing_have_no_name(tmp_path):
    (tmp_path / "a.img").write_bytes(bytes(512))
    assert identity(str(tmp_path / "a.img")) == identity(str(tmp_path / "none")) == ""
    assert _of(tmp_path, os.makedev(8, 9)) == ""


@pytest.mark.parametrize(
    "ours, theirs, same",
    [
        ([NAA], [NAA], "/dev/a"),
        (["", NAA], [NAA, ""], "/dev/b"),
        (["", ""], ["", ""], ""),
        ([NAA], ["naa.2"], ""),
        (None, [NAA], ""),
        ([NAA], None, ""),
        ([NAA], 7, ""),
        ([NAA], [["x"], {}], ""),
    ],
)
def test_any_of_ours_that_is_any_of_theirs_is_named(ours, theirs, same):
    text = one_for_both(ours, theirs, ["/dev/a", "/dev/b"])
    assert text.startswith(f"disks: {same} here is the same device") if same else text == ""


def with_devices(primary: list[str], secondary: list[str]) -> Rig:
    out = Rig(disks=[DISK])
    for seat, names in ((out["primary"], primary), (out["secondary"], secondary)):
        seat.tells["qemu_ready"] = lambda facts, names=names: [{**facts, "disk_ids": names}]
    return out


def test_a_secondary_with_the_leaders_own_device_is_refused():
    group = with_devices([NAA], [NAA])
    group.run(5.0)
    assert "CopyDisks" not in group["primary"].done
    assert "/dev/lun here is the same device as one of its own" in group["primary"].status()["reason"]


def test_devices_without_a_name_are_not_compared():
    group = with_devices([""], [""])
    group.until(group.protected)


def test_a_secondary_with_a_device_of_its_own_joins():
    group = with_devices([NAA], ["naa.2"])
    group.until(group.protected)
