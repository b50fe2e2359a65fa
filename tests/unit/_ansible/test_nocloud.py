# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud-init seed: its bytes, read by a reader of our own; the real one is a guest's (tests/integration/test_boot.py)."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible import nocloud
from ansible_collections.plover.vmft.plugins.modules import plover_seed

FILES = {"meta-data": b"instance-id: a\n", "network-config": b"version: 2\n", "user-data": b"#cloud-config\n" * 400}


def read(image: bytes) -> dict[str, bytes]:
    """Name -> content, by ECMA-119 and Rock Ridge's NM."""
    assert image[32769:32774] == b"CD001" and image[32808:32814] == b"cidata"
    (at,) = struct.unpack_from("<I", image, 32768 + 156 + 2)
    out, place = {}, at * 2048
    while image[place]:
        record = image[place : place + image[place]]
        sector, size = struct.unpack_from("<I", record, 2)[0], struct.unpack_from("<I", record, 10)[0]
        more = record[33 + record[32] + (1 - record[32] % 2) :]
        while len(more) > 4:
            if more[:2] == b"NM":
                out[more[5 : more[2]].decode()] = image[sector * 2048 : sector * 2048 + size]
            more = more[more[2] :]
        place += image[place]
    return out


@pytest.mark.parametrize("names", [["user-data"], ["meta-data", "user-data"], list(FILES)])
def test_the_seed_holds_its_files(names):
    files = {name: FILES[name] for name in names}
    image = nocloud.seed(files)
    assert read(image) == files and len(image) % 2048 == 0
    assert struct.unpack_from("<I", image, 32768 + 80)[0] * 2048 == len(image)


def test_programs_of_the_host_see_a_labelled_iso_image(tmp_path):
    (tmp_path / "seed").write_bytes(nocloud.seed(FILES))
    said = subprocess.run(["blkid", "-o", "export", str(tmp_path / "seed")], capture_output=True, text=True, check=True, timeout=20).stdout
    assert "LABEL=cidata" in said and "TYPE=iso9660" in said


def test_the_bytes_are_the_same_on_every_host_and_at_each_run():
    """A change of them would differ between hosts with two versions of the collection."""
    image = nocloud.seed(dict(reversed(FILES.items())))
    assert hashlib.sha256(image).hexdigest() == hashlib.sha256(nocloud.seed(FILES)).hexdigest() == SHA256


SHA256 = "41d6fb837f992d89b5f43b9eca6758453b9a4915ea71b6176d026e04257e909a"


@pytest.mark.parametrize(
    "given, files",
    [
        (("#cloud-config\n", None, None), {"user-data": b"#cloud-config\n", "meta-data": b'{\n "instance-id": "i"\n}\n'}),
        (({"b": 1, "a": "\u00e9"}, "x: y", None), {"user-data": b'#cloud-config\n{\n "a": "\\u00e9",\n "b": 1\n}\n', "meta-data": b"x: y"}),
        (("#!", {"local-hostname": "h"}, None), {"meta-data": b'{\n "instance-id": "i",\n "local-hostname": "h"\n}\n', "user-data": b"#!"}),
        (("#", {"instance-id": "own"}, {"version": 2}), {"network-config": b'{\n "version": 2\n}\n', "user-data": b"#"}),
    ],
)
def test_texts_stay_and_mappings_become_yaml(given, files):
    made = nocloud.files_of(*given, "i")
    assert {name: made[name] for name in files} == files and set(made) <= set(nocloud.FILES) and "meta-data" in made


def test_the_module_writes_what_differs_for_root_alone(tmp_path):
    path = tmp_path / "seed"
    assert not plover_seed.is_there(path, b"one")
    plover_seed.write(path, b"one")
    assert plover_seed.is_there(path, b"one") and path.stat().st_mode & 0o777 == 0o600
    assert not plover_seed.is_there(path, b"on") and not plover_seed.is_there(path, b"one more")
    with open(path, "rb") as running:  # a QEMU
        plover_seed.write(path, b"two")
        assert running.read() == b"one" and path.read_bytes() == b"two"
    path.chmod(0o644)
    assert not plover_seed.is_there(path, b"two")
    assert os.listdir(tmp_path) == ["seed"]
