# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that are not what their disk's format says, each made by the program that people make them with."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess

import pytest
from plover.config.image_kinds import HEAD_BYTES, length, misfit

MIB = 1 << 20


def made(tmp_path, kind, *options):
    """An image of 1 MiB by qemu-img: (first bytes, last bytes)."""
    path = tmp_path / f"disk.{kind}"
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(path), "1M"], check=True, timeout=60)
    data = path.read_bytes()
    return data[:HEAD_BYTES], data[-HEAD_BYTES:]


@pytest.mark.parametrize(
    "kind, options, name",
    [
        ("vmdk", (), "VMDK"),
        ("vmdk", ("-o", "subformat=monolithicFlat"), "VMDK"),
        ("vdi", (), "VDI"),
        ("vhdx", (), "VHDX"),
        ("vpc", (), "VHD"),
        ("vpc", ("-o", "subformat=fixed"), "VHD"),
        ("qed", (), "QED"),
        ("qcow2", (), "a qcow2 image"),
    ],
)
def test_another_format_given_as_raw_is_named(tmp_path, kind, options, name):
    said = misfit("raw", *made(tmp_path, kind, *options))
    assert said.startswith(f"is {name}, not") and ("qemu-img convert" in said or "set the disk's format" in said)


@pytest.mark.parametrize("pack, name", [(lzma.compress, "xz"), (gzip.compress, "gzip"), (bz2.compress, "bzip2")])
def test_a_packed_image_is_named(pack, name):
    assert misfit("raw", pack(bytes(MIB))[:HEAD_BYTES]) == f"is {name}, not a raw image; unpack it"


@pytest.mark.parametrize("head", [b"", bytes(HEAD_BYTES), bytes(510) + b"\x55\xaa", b"\xeb\x63\x90" + bytes(509), b"EFI PART".rjust(512)])
def test_a_raw_image_may_hold_anything_else(head):
    assert misfit("raw", head, head) == ""


@pytest.mark.parametrize(
    "options, said",
    [
        ((), ""),
        (("-b", "BASE", "-F", "raw"), "has a backing file"),
        (("-o", "data_file=DATA"), "has its data in another file"),
    ],
)
def test_a_qcow2_image_must_be_whole_by_itself(tmp_path, options, said):
    (tmp_path / "base").write_bytes(bytes(MIB))
    words = [word.replace("BASE", str(tmp_path / "base")).replace("DATA", str(tmp_path / "data")) for word in options]
    head, _tail = made(tmp_path, "qcow2", *words)
    assert misfit("qcow2", head).startswith(said) and (said or not misfit("qcow2", head))
    assert length("qcow2", head, 0) == MIB


@pytest.mark.parametrize("head", [b"", b"QFI\xfb", bytes(HEAD_BYTES)])
def test_what_is_no_qcow2_image_is_refused(head):
    assert misfit("qcow2", head) == "is no qcow2 image; correct the disk's format"
