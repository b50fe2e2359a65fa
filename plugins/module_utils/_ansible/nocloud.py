# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed of cloud-init's data source NoCloud: a small ISO 9660 image with three files, labelled cidata. Pure.

The same files give the same bytes, on every host and at each run: there is no date in it, and no order but that of the names.
Structure: ECMA-119, one folder. The names are in Rock Ridge (IEEE P1282), as ISO 9660 itself has no small letters.
"""

from __future__ import annotations

import json
import struct

SECTOR = 2048
LABEL = b"cidata"
FILES = ("meta-data", "network-config", "user-data")  # in the order of their ISO names
BYTES_MAX = 1 << 20  # of one file
NO_DATE, NO_LONG_DATE = bytes(7), b"0" * 16 + b"\0"
PVD, TABLE_L, TABLE_M, ROOT, DATA = 16, 18, 19, 20, 21  # sectors
FOLDER_MODE, FILE_MODE = 0o040555, 0o100444


def both(number, size=4):
    """A number in both byte orders, as ECMA-119 wants it."""
    return number.to_bytes(size, "little") + number.to_bytes(size, "big")


def seed(files):
    """The image's bytes. ``files``: name -> bytes, of :data:`FILES`."""
    places, data = [], b""
    for name in FILES:
        if name in files:
            places.append((name, DATA + len(data) // SECTOR, len(files[name])))
            data += _padded(files[name])
    sectors = DATA + len(data) // SECTOR
    root = _padded(_root(places))
    tables = _padded(_path_table("<")) + _padded(_path_table(">"))
    return bytes(PVD * SECTOR) + _volume(sectors) + _padded(b"\xffCD001\x01") + tables + root + data


def _padded(data):
    return data + bytes(-len(data) % SECTOR)


def _path_table(order):
    return struct.pack(f"{order}BBIH", 1, 0, ROOT, 1) + bytes(2)


def _volume(sectors):
    """The primary volume descriptor (ECMA-119, 8.4)."""
    out = b"\x01CD001\x01\0" + b" " * 32 + LABEL.ljust(32) + bytes(8) + both(sectors) + bytes(32)
    out += both(1, 2) + both(1, 2) + both(SECTOR, 2) + both(len(_path_table("<")))
    out += struct.pack("<II", TABLE_L, 0) + struct.pack(">II", TABLE_M, 0) + _record(b"\0", ROOT, SECTOR, folder=True)
    out += b" " * (128 * 4 + 37 * 3) + NO_LONG_DATE * 4 + b"\x01\0"
    return _padded(out)


def _root(places):
    here = b"SP\x07\x01\xbe\xef\0" + _mode(FOLDER_MODE, 2) + b"ER\x12\x01\x0a\0\0\x01RRIP_1991A"
    out = _record(b"\0", ROOT, SECTOR, here, folder=True) + _record(b"\x01", ROOT, SECTOR, _mode(FOLDER_MODE, 2), folder=True)
    for name, sector, length in places:
        known = name.encode("ascii")
        more = _mode(FILE_MODE, 1) + b"NM" + bytes([5 + len(known), 1, 0]) + known
        out += _record(known.upper().replace(b"-", b"_") + b".;1", sector, length, more)
    return out


def _mode(mode, links):
    """Rock Ridge's PX: mode, links, owner, group."""
    return b"PX\x24\x01" + both(mode) + both(links) + both(0) + both(0)


def _record(name, sector, length, more=b"", folder=False):
    """A directory record (ECMA-119, 9.1)."""
    out = b"\0" + both(sector) + both(length) + NO_DATE + bytes([2 if folder else 0, 0, 0]) + both(1, 2)
    out += bytes([len(name)]) + name + bytes(1 - len(name) % 2) + more
    out += bytes((1 + len(out)) % 2)
    return bytes([1 + len(out)]) + out


def files_of(user_data, meta_data, network_config, instance_id):
    """The seed's files, as bytes. Each argument is a text or a mapping, or empty; ``instance_id``: where meta_data names none."""
    meta = {"instance-id": instance_id} if not meta_data else meta_data
    if isinstance(meta, dict):
        meta = {"instance-id": instance_id, **meta}
    given = {"user-data": _text(user_data, "#cloud-config\n"), "meta-data": _text(meta), "network-config": _text(network_config)}
    return {name: text.encode("utf-8") for name, text in given.items() if text}


def _text(value, first=""):
    """A mapping as JSON, which is YAML as well; the same mapping gives the same text."""
    return first + json.dumps(value, sort_keys=True, indent=1) + "\n" if isinstance(value, dict) else value or ""
