# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab and the collection are built from: the same input gives the same bytes."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile

from lab import guest_image
from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import build_collection


def test_the_guest_image_is_reproducible(tmp_path):
    packages = [guest_image.kernel_package(), *guest_image.PACKAGES]
    for name in ("a", "b"):
        guest_image.make(tmp_path / name, packages)
    for part in ("vmlinuz", "initrd.img"):
        assert (tmp_path / "a" / part).read_bytes() == (tmp_path / "b" / part).read_bytes()
    cached = guest_image.build()
    assert cached.initrd.read_bytes() == (tmp_path / "a" / "initrd.img").read_bytes()


def test_the_packed_sources_are_the_tree_and_reproducible(tmp_path):
    packed = build_collection.packed()
    assert packed == build_collection.packed()
    for name, files in build_collection.contents().items():
        with tarfile.open(fileobj=io.BytesIO(packed[name])) as tar:
            members = tar.getmembers()
            assert len(members) > 5 and all((m.uid, m.mtime) == (0, 0) for m in members)
            for member in members:
                assert tar.extractfile(member).read() == files[member.name].read_bytes(), member.name


def test_the_bridges_script_runs_as_the_one_file_that_it_is_packed_into(tmp_path):
    data = build_collection.bridge_script()
    assert data == build_collection.bridge_script()
    (tmp_path / "plover-bridge").write_bytes(data)
    (tmp_path / "plover-bridge").chmod(0o755)
    out = subprocess.run([tmp_path / "plover-bridge", "--help"], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "undo-at-boot" in out.stdout


def test_the_packed_native_sources_build(tmp_path):
    (tmp_path / "native.tar").write_bytes(build_collection.packed()["roles/native/files/plover-native.tar"])
    subprocess.run(["tar", "-xf", "native.tar"], cwd=tmp_path, check=True)
    subprocess.run(["make", "-s"], cwd=tmp_path, check=True)
    (tmp_path / "page").write_bytes(bytes(4096))
    out = subprocess.run([tmp_path / "build" / "plover-hash", tmp_path / "page"], check=True, capture_output=True, text=True)
    assert len(out.stdout.strip()) == 16
