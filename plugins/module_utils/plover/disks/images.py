# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of one VM: QEMU's block graph of each role, made from the settings, and the image files.

Names in the graph, for disk N: ``diskN`` is the image and ``topN`` the quorum below the guest's device. Between them,
``imageN`` is the place of the snapshot while the disk is copied (disks/block_copy.py). On a secondary, ``activeN`` and
``hiddenN`` are its overlays and ``replN`` is the filter that switches them (QEMU's docs/block-replication.txt; after a
failover see disks/block_merge.py). On a leader with a secondary, ``nbdN`` is the secondary's image and ``peerN`` the filter
over it.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import stat
import subprocess
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import boot
from ..config.disks import Disk
from ..config.settings import Config
from ..errors import QemuError
from ..host import own_folder
from ..host.qemu_user import QemuUser
from . import sockets

OVERLAYS = ("hidden", "active", "fleece")
SETS = 10  # of descriptors in QEMU: disk N has SETS + N
SECTOR_BYTES = 512
QCOW2_MAGIC, QCOW2_LENGTH_AT = b"QFI\xfb", 24  # QEMU's docs/interop/qcow2.txt
IMAGE_BLOCK_BYTES, IMAGE_BLOCKS_MAX = 65_536, 1 << 17
TOOL_TIMEOUT_S = 20.0
_DEVICES = {"virtio-blk": "virtio-blk-pci", "virtio-scsi": "scsi-hd,bus=scsi0.0", "ide": "ide-hd"}


# ---- the graph -------------------------------------------------------------------------------------------------
def arguments(config: Config, incoming: bool) -> list[str]:
    """QEMU's arguments for all disks of a VM that boots or, with ``incoming``, of an empty secondary."""
    out = ["-device", "virtio-scsi-pci,id=scsi0"] if any(disk.bus == "virtio-scsi" for disk in config.disk_list) else []
    for disk in config.disk_list:
        nodes = [_image(disk)]
        if incoming:
            nodes += [
                _overlay(config, disk, "hidden", "disk"),
                _overlay(config, disk, "active", "hidden"),
                {
                    "driver": "replication",
                    "node-name": disk.node("repl"),
                    "mode": "secondary",
                    "top-id": disk.node("top"),
                    "file": disk.node("active"),
                },
            ]
        nodes.append({"driver": "raw", "node-name": disk.node("image"), "file": nodes[-1]["node-name"]})
        # A quorum of one vote: reads come from the first child, a write is good once one child has it.
        nodes.append(
            {
                "driver": "quorum",
                "node-name": disk.node("top"),
                "vote-threshold": 1,
                "read-pattern": "fifo",
                "children": [nodes[-1]["node-name"]],
            }
        )
        for node in nodes:
            out += ["-blockdev", json.dumps(node)]
        serial = f",serial={disk.serial}" if disk.serial else ""
        order = boot.order_of_disk(config.values, disk.number)
        first = "" if order is None else f",bootindex={order}"
        out += ["-device", f"{_DEVICES[disk.bus]},id=drive{disk.number},drive={disk.node('top')}{serial}{first}"]
    return out


def _image(disk: Disk) -> dict[str, Any]:
    driver = "host_device" if _is_block_device(disk.path) else "file"
    cache = {"direct": disk.cache == "none", "no-flush": False}
    return {
        "driver": disk.format,
        "node-name": disk.node("disk"),
        "cache": cache,
        # Threads flush by fdatasync(), which our preload library sees. The other ways go past it.
        "file": {"driver": driver, "filename": image_name(disk), "cache": cache, "aio": "threads"},
    }


def image_name(disk: Disk) -> str:
    """What QEMU opens: descriptors that it got from the launcher (qemu/launch_file.py), as the image may be root's alone."""
    return f"/dev/fdset/{SETS + disk.number}"


def _overlay(config: Config, disk: Disk, kind: str, below: str) -> dict[str, Any]:
    """An overlay lives only as long as its QEMU, so it need not reach a disk."""
    cache = {"direct": False, "no-flush": True}
    return {
        "driver": "qcow2",
        "node-name": disk.node(kind),
        "cache": cache,
        "backing": disk.node(below),
        "file": {"driver": "file", "filename": str(overlay_path(config, disk, kind)), "cache": cache},
    }


def overlay_path(config: Config, disk: Disk, kind: str) -> Path:
    return config.overlay_path / f"{kind}{disk.number}.qcow2"


def used_bytes(config: Config, kinds: tuple[str, ...] = OVERLAYS) -> int:
    """Space that the overlays take on their file system."""
    out = 0
    for disk in config.disk_list:
        for kind in kinds:
            try:
                out += overlay_path(config, disk, kind).stat().st_blocks * 512
            except FileNotFoundError:
                continue  # merged, or none yet
    return out


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


# ---- the files -------------------------------------------------------------------------------------------------
def prepare(config: Config, incoming: bool, user: QemuUser | None = None) -> None:
    """Check the images; for a secondary create its empty overlays, for ``user``. Raises QemuError with the remedy."""
    for socket in (sockets.export_socket(config), sockets.stream_socket(config)):
        socket.unlink(missing_ok=True)
    if config.disk_list:
        make_folder(config)
    for disk in config.disk_list:
        if not os.access(disk.path, os.R_OK | os.W_OK):
            raise QemuError(f"disks[{disk.number}].path: {disk.path} is missing or not writable on this host; role 'disks' places it")
        size = virtual_size(disk)
        for kind in OVERLAYS:
            overlay_path(config, disk, kind).unlink(missing_ok=True)
        for kind in ("hidden", "active") if incoming else ():
            make_overlay(config, overlay_path(config, disk, kind), size, user and (user.uid, user.gid))


def make_folder(config: Config) -> None:
    """The overlays' folder: root's own. QEMU's user may only pass through it. Raises QemuError."""
    own_folder.claim(config.overlay_path, "disk_overlay_dir", 0o711)


def make_overlay(config: Config, path: Path, size: int, owner: tuple[int, int] | None) -> None:
    """Create an empty overlay of ``size`` bytes for QEMU, whose (user, group) is ``owner``. Raises QemuError."""
    make_folder(config)
    try:
        own_folder.write(path, b"")
        _tool("create", "-q", "-f", "qcow2", str(path), str(size))
        if owner:
            os.chown(path, *owner, follow_symlinks=False)
    except OSError as error:
        raise QemuError(f"disk_overlay_dir: {path} cannot be made: {error.strerror}") from error


def virtual_size(disk: Disk) -> int:
    """Length in bytes, as the guest sees it.

    Read here, not by qemu-img: that would follow, as root, what a guest that escaped wrote into its image's header.
    """
    try:
        with open(disk.path, "rb") as file:
            head = file.read(QCOW2_LENGTH_AT + 8) if disk.format == "qcow2" else b""
            size = -(-file.seek(0, os.SEEK_END) // SECTOR_BYTES) * SECTOR_BYTES  # QEMU counts the last sector as whole
    except OSError as error:
        raise QemuError(f"disks[{disk.number}].path: {disk.path} cannot be read: {error.strerror}") from error
    if disk.format == "qcow2":
        if not head.startswith(QCOW2_MAGIC) or len(head) < QCOW2_LENGTH_AT + 8:
            raise QemuError(f"disks[{disk.number}].path: {disk.path} is no qcow2 image; correct the disk's format")
        size = int.from_bytes(head[QCOW2_LENGTH_AT:], "big")
    if not size or size % SECTOR_BYTES:
        raise QemuError(
            f"disks[{disk.number}].path: {disk.path} has {size} bytes, which is no whole number of "
            f"{SECTOR_BYTES}-byte sectors; make it longer with 'truncate'"
        )
    return size


# ---- an audit ---------------------------------------------------------------------------------------------------
def hashed_bytes(config: Config) -> int:
    """How much hash_blocks() will read; an image that cannot be read counts as empty."""
    out = 0
    for disk in config.disk_list:
        with contextlib.suppress(OSError), open(disk.path, "rb") as file:
            out += file.seek(0, os.SEEK_END)
    return out


def hash_blocks(config: Config, hash64: Callable[[memoryview], int], count: Callable[[int], None] = lambda size: None) -> bytes:
    """Hashes of all blocks of all images, one after the other, as 64-bit numbers. ``count``: is told each block's bytes.
    Raises QemuError."""
    out = array("Q")
    for disk in config.disk_list:
        try:
            with open(disk.path, "rb") as file:
                size = os.lseek(file.fileno(), 0, os.SEEK_END)
                with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as image, memoryview(image) as view:
                    step = image_block_bytes(size)
                    for start in range(0, size, step):
                        with view[start : start + step] as block:
                            out.append(hash64(block))
                            count(len(block))
        except (OSError, ValueError) as error:
            raise QemuError(f"disks[{disk.number}].path: {disk.path} cannot be read: {error}") from error
    return out.tobytes()


def image_block_bytes(size: int) -> int:
    """Bytes covered by one hash of an image of ``size`` bytes: enough for its hashes to fit into one message."""
    out = IMAGE_BLOCK_BYTES
    while size // out > IMAGE_BLOCKS_MAX:
        out *= 2
    return out


def _tool(*words: str) -> str:
    try:
        done = subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False, timeout=TOOL_TIMEOUT_S)
    except FileNotFoundError:
        raise QemuError("qemu-img is missing on this host; role 'qemu' installs it (package qemu-utils)") from None
    except subprocess.TimeoutExpired:
        raise QemuError(f"qemu-img {words[0]} took longer than {TOOL_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise QemuError(f"qemu-img {words[0]}: {done.stderr.strip()[:400]}")
    return done.stdout
