# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of disks between two real QEMUs that have no guest: writes come from QEMU's own qemu-io, at the device's node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from harness import ADDRESSES
from plover.config.settings import Config
from plover.disks import sockets
from plover.disks.block_graph import LEFT, WHOLE, BlockGraph
from plover.disks.block_layer import BlockLayer
from plover.disks.images import arguments, overlay_path, prepare
from plover.errors import QemuError
from plover.qemu.qmp import Qmp

from lab.by_name import by_name

MIB = 1 << 20
SIZE_MIB = 64
NAMES = {name: f"{n:032x}" for n, name in enumerate(("first", "second", "third"))}


class Side:
    """One replica's QEMU."""

    def __init__(
        self, folder: Path, member: str, disks: int, image_folders: dict | None = None, cache: str = "writeback", **settings
    ) -> None:
        self.folder = folder
        self.images = [(image_folders or {}).get(member, folder) / f"{member}{n}.img" for n in range(disks)]
        for n, image in enumerate(self.images):
            image.write_bytes(os.urandom(MIB) * SIZE_MIB if member == "primary" else bytes([n]) * (SIZE_MIB * MIB))
        self.config = Config(
            {
                "name": "demo",
                "member": member,
                "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
                "members": {m: {"address": a, "kind": "witness" if m == "witness" else "replica"} for m, a in ADDRESSES.items()},
                "guest_kernel": "/none",
                "preferred_leader": "primary",
                "guest_mac": "52:54:00:70:6c:01",
                "run_dir": str(folder / member),
                "state_dir": str(folder),
                "shm_dir": str(folder / member),
                "qemu_user": "root",
                "disks": [{"path": str(image), "cache": cache} for image in self.images],
                **settings,
            }
        )

    async def start(self, incoming: bool) -> None:
        self.config.run_path.mkdir(parents=True, exist_ok=True)
        prepare(self.config, incoming)
        path = self.folder / f"{self.config.member}.sock"
        path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64",
                "-machine",
                "q35,accel=tcg",
                "-m",
                "32",
                "-S",
                "-display",
                "none",
                "-nodefaults",
                "-qmp",
                f"unix:{path},server=on,wait=off",
                *by_name(self.config, arguments(self.config, incoming)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.qmp = await Qmp.connect(str(path), 10)
        self.block, self.graph = BlockLayer(self.config, self.qmp), BlockGraph(self.config, self.qmp)
        if incoming:
            await self.qmp.give_listener(sockets.LISTENER, sockets.export_socket(self.config))
            await self.block.export(sockets.OF_IMAGES)

    async def begin(self, name: str) -> dict:
        """The secondary is ready, whatever the copy's name."""
        return {"type": "unix", "path": str(sockets.export_socket(self.config)).replace("/primary/", "/secondary/")}

    async def end(self) -> None:
        self.process.kill()
        self.process.wait()
        await self.qmp.close()

    async def write(self, start_mib: float, mib: float, disk: int = 0) -> None:
        device = f"/machine/peripheral/drive{disk}/virtio-backend"
        words = f"write -P {os.urandom(1)[0] % 255 + 1} {int(start_mib * MIB)} {int(mib * MIB)}"
        answer = await self.qmp.execute("human-monitor-command", **{"command-line": f'qemu-io -d {device} "{words}"'})
        assert not answer.strip(), answer


def scenario(folder: Path, play, disks: int = 1, **settings) -> None:
    """``play(leader, secondary)`` between two running QEMUs."""

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            sides = []
            for member in ("primary", "secondary"):
                sides.append(Side(folder, member, disks, **settings))
                await sides[-1].start(member == "secondary")
                stack.push_async_callback(sides[-1].end)
            await asyncio.wait_for(play(*sides), 60)

    asyncio.run(run())


async def copied(leader: Side, held: tuple[str, ...], name: str) -> int:
    """A whole copy, up to the images being equal; returns how many bytes went there."""
    seen = [(0, 0)]
    await leader.block.copy(leader.begin, tuple(NAMES[h] for h in held), NAMES[name], lambda done, total: seen.append((done, total)))
    rest = sum([await leader.graph.dirty_bytes(disk) for disk in leader.config.disk_list])
    await leader.block.attach()
    return seen[-1][0] + rest


async def broken_off(leader: Side, secondary: Side, name: str, disk: int = 0) -> None:
    """A copy whose link breaks halfway; the guest writes before and behind the copied part."""
    task = asyncio.ensure_future(leader.block.copy(leader.begin, (), NAMES[name], lambda done, total: None))
    while not (await leader.graph.jobs()).get(f"copy{disk}", {}).get("current-progress", 0) > 16 * MIB:
        await asyncio.sleep(0.02)
    await leader.write(2, 1, disk)
    await leader.write(60, 1, disk)
    await leader.block.cut()
    with pytest.raises(QemuError, match=f"copying disk {disk} to the secondary: Input/output error"):
        await task
    await leader.write(5, 1, disk)
    await leader.block.detach()


async def all_equal(leader: Side, secondary: Side) -> None:
    await leader.write(30, 1)  # goes to both
    for side in (leader, secondary):
        for disk in side.config.disk_list:
            await side.block.flush(disk)
    for ours, theirs in zip(leader.images, secondary.images):
        same = ours.read_bytes() == theirs.read_bytes()
        assert same, (ours, theirs)
    nodes = await leader.graph.names()
    assert not {node for node in nodes if node.startswith(("snap", "cbw", "fleece"))}
    for disk in leader.config.disk_list:
        assert set(await leader.graph.bitmaps(disk.node("top"))) & {WHOLE, LEFT} == set()
        assert not overlay_path(leader.config, disk, "fleece").exists()


def test_a_copy_that_broke_off_goes_on_where_it_was(tmp_path):
    async def play(leader: Side, secondary: Side) -> None:
        await broken_off(leader, secondary, "first")
        assert 20 * MIB < await copied(leader, ("first",), "second") < 54 * MIB
        await all_equal(leader, secondary)

    scenario(tmp_path, play, disk_copy_mib_per_s=20)


def test_a_copy_by_a_name_that_is_not_known_is_whole(tmp_path):
    async def play(leader: Side, secondary: Side) -> None:
        await broken_off(leader, secondary, "first")
        secondary.images[0].write_bytes(bytes(SIZE_MIB * MIB))
        assert await copied(leader, ("third",), "second") >= SIZE_MIB * MIB
        await all_equal(leader, secondary)

    scenario(tmp_path, play, disk_copy_mib_per_s=60)


def test_of_two_disks_the_one_that_was_not_begun_is_whole(tmp_path):
    """The bitmaps of a copy that broke off in its first disk know nothing of the second."""

    async def play(leader: Side, secondary: Side) -> None:
        await broken_off(leader, secondary, "first")
        await leader.write(1, 1, disk=1)
        assert 84 * MIB < await copied(leader, ("first",), "second") < 118 * MIB
        await all_equal(leader, secondary)

    scenario(tmp_path, play, disks=2, disk_copy_mib_per_s=40)


def test_a_daemon_that_begins_anew_in_mid_copy_forgets_nothing(tmp_path):
    async def play(leader: Side, secondary: Side) -> None:
        task = asyncio.ensure_future(leader.block.copy(leader.begin, (), NAMES["first"], lambda done, total: None))
        while "copy0" not in await leader.graph.jobs():
            await asyncio.sleep(0.02)
        task.cancel()
        leader.block = BlockLayer(leader.config, leader.qmp)
        await leader.write(50, 1)
        await leader.block.detach()
        assert await copied(leader, ("first",), "second") >= SIZE_MIB * MIB
        await all_equal(leader, secondary)
        await leader.write(10, 20)
        await leader.block.detach()
        assert await copied(leader, ("second",), "third") == 21 * MIB  # with what all_equal wrote
        await all_equal(leader, secondary)

    scenario(tmp_path, play, disk_copy_mib_per_s=40)


def test_what_the_guest_overwrites_during_a_copy_takes_bounded_room(tmp_path):
    """Half of disk_overlay_mib; then the round ends, and the next one copies the rest."""

    async def play(leader: Side, secondary: Side) -> None:
        fleece, most = overlay_path(leader.config, leader.config.disk_list[0], "fleece"), 0
        task = asyncio.ensure_future(leader.block.copy(leader.begin, (), NAMES["first"], lambda done, total: None))
        while not fleece.exists():
            await asyncio.sleep(0.01)
        for n in range(40):
            await leader.write(63 - n, 1)
            with contextlib.suppress(FileNotFoundError):
                most = max(most, fleece.stat().st_blocks * 512)
            await asyncio.sleep(0.02)
        await task
        assert 6 * MIB < most < 13 * MIB
        await leader.block.attach()
        await all_equal(leader, secondary)

    scenario(tmp_path, play, disk_copy_mib_per_s=20, disk_overlay_mib=16)


def test_a_full_overlay_folder_ends_the_copy_and_not_the_guests_writes(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", str(folder)], check=True)

    async def play(leader: Side, secondary: Side) -> None:
        task = asyncio.ensure_future(leader.block.copy(leader.begin, (), NAMES["first"], lambda done, total: None))
        while not (await leader.graph.jobs()).get("copy0", {}).get("current-progress", 0) > 8 * MIB:
            await asyncio.sleep(0.02)
        for n in range(8):
            await leader.write(50 + n, 1)
        with pytest.raises(QemuError, match="copying disk 0 to the secondary"):
            await task
        await leader.block.detach()
        sent = await copied(leader, ("first",), "second")
        assert 8 * MIB < sent < 62 * MIB
        await all_equal(leader, secondary)

    try:
        scenario(tmp_path, play, disk_copy_mib_per_s=20, disk_overlay_dir=str(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_write_that_the_secondary_did_not_take_is_told(tmp_path):
    """QEMU's replication hides it from the guest, and from everybody who does not ask."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB + 4}m", "small", str(folder)], check=True)

    async def play(leader: Side, secondary: Side) -> None:
        assert await leader.block.peer_error() == ""
        await copied(leader, (), "first")
        await leader.write(1, 1)
        assert await leader.block.peer_error() == ""
        os.truncate(secondary.images[0], MIB)  # what is behind it is written past the file system's end
        (folder / "filler").write_bytes(bytes(60 * MIB))
        await leader.write(2, SIZE_MIB - 2)
        assert await leader.block.peer_error()
        await leader.block.detach()
        assert await leader.block.peer_error() == ""

    try:
        scenario(tmp_path, play, image_folders={"secondary": folder})
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
