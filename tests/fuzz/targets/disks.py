# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks and names of disk images: their files, and attributes that anybody who owns an image can set."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

from plover.core import disk_marks, join_request
from plover.disks.local_images import LocalImages
from plover.disks.marks import FILE, DiskMarks
from plover.host.store import Files

from ..target import Target, promise
from . import group

IMAGES = ("/images/a.img", "/images/b.img")
CONFIG = group.config("primary", disks=[{"path": path} for path in IMAGES])


class _Images:
    """Image files whose attributes are all ``text``."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get(self, path: str, name: str) -> str:
        return self.text

    def put(self, path: str, name: str, text: str) -> bool:
        self.text = text
        return True

    def drop(self, path: str, name: str) -> None:
        self.text = ""

    def sync(self, path: str) -> None: ...

    def hold(self, paths: object) -> None: ...

    def release(self) -> None: ...


class _File(Files):
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, path: object) -> str:
        return self.data.decode("utf-8")


def marks(data: bytes) -> None:
    """disks.json; without a second line, its checksum is added."""
    if b"\n" not in data:
        data += b"\n%08x\n" % zlib.crc32(data)
    found = DiskMarks(CONFIG, _File(data), _Images("")).read()
    promise(len(found) == len(IMAGES), "not a mark for each image")
    promise(disk_marks.why_torn(found).isprintable(), "a reason that cannot be logged")


def _marks() -> Iterator[tuple[str, bytes]]:
    body = json.dumps({IMAGES[0]: "whole 7", IMAGES[1]: "merging 8"}).encode()
    yield FILE.removesuffix(".json"), body + b"\n%08x\n" % zlib.crc32(body)
    yield "body", body


def attributes(data: bytes) -> None:
    text = data.decode("ascii", "replace")
    mark = disk_marks.parse(text)
    promise(str(mark).isprintable(), "a mark that cannot be logged")
    promise(disk_marks.worse(mark, disk_marks.Mark(disk_marks.MISSED, 1)).torn, "an attribute that lifts a warning")
    images = _Images(text)
    held = LocalImages(CONFIG, "boot", DiskMarks(CONFIG, _File(b""), images), images).read()
    said = {"held": held, "next": "1" * 32}
    promise(join_request.copies(said) is None or all(len(name) == 32 for name in held[: join_request.NAMES_MAX]), "a copy with an odd name")


def _attributes() -> Iterator[tuple[str, bytes]]:
    for text in ("whole 7", "missed 18446744073709551615", "", "0" * 32, " ".join(("0" * 32, "1" * 32))):
        yield text.partition(" ")[0][:12] or "none", text.encode()


TARGETS = [
    Target("disk_marks", marks, (), _marks, is_json=True),
    Target("image_attributes", attributes, (), _attributes),
]
