# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is, by its first bytes: whether it is what its disk's ``format`` says. Pure.

A guest writes what it likes to its raw disk. So only an image that no VM of ours has run from may be judged by its content.
"""

from __future__ import annotations

HEAD_BYTES = 512
QCOW2 = b"QFI\xfb"
LENGTH_AT, INCOMPATIBLE_AT, BACKING_AT, CRYPT_AT = 24, 72, 8, 32  # of a qcow2 image: QEMU's docs/interop/qcow2.txt
EXTERNAL_DATA = 1 << 2
UNPACK = "unpack it"
CONVERT = "convert it: qemu-img convert -O raw"
# (where, bytes, what it is, remedy)
KINDS = (
    (0, b"\xfd7zXZ\0", "xz", UNPACK),
    (0, b"\x1f\x8b", "gzip", UNPACK),
    (0, b"BZh", "bzip2", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "zstd", UNPACK),
    (0, b"PK\x03\x04", "zip", UNPACK),
    (0, b"KDMV", "VMDK", CONVERT),
    (0, b"COWD", "VMDK", CONVERT),
    (0, b"# Disk DescriptorFile", "VMDK", CONVERT),
    (0x40, b"\x7f\x10\xda\xbe", "VDI", CONVERT),
    (0, b"vhdxfile", "VHDX", CONVERT),
    (0, b"conectix", "VHD", CONVERT),
    (0, b"QED\0", "QED", CONVERT),
    (257, b"ustar", "tar", UNPACK),
)


def misfit(kind: str, head: bytes, tail: bytes = b"") -> str:
    """Why an image with these first bytes (and last 512) is not one of ``kind``, and the remedy; empty if it is."""
    if kind == "qcow2":
        return _of_qcow2(head)
    if head.startswith(QCOW2):
        return "is a qcow2 image, not raw; set the disk's format to qcow2"
    for at, magic, name, remedy in KINDS:
        if head[at : at + len(magic)] == magic:
            return f"is {name}, not a raw image; {remedy}"
    if tail.startswith(b"conectix"):  # a fixed VHD: raw, with a footer
        return f"is VHD, not a raw image; {CONVERT}"
    return ""


def _of_qcow2(head: bytes) -> str:
    if not head.startswith(QCOW2) or len(head) < INCOMPATIBLE_AT:
        return "is no qcow2 image; correct the disk's format"
    if _number(head, BACKING_AT, 8):
        return "has a backing file, which the other replica does not have; flatten it: qemu-img convert -O qcow2"
    if _number(head, CRYPT_AT, 4):
        return "is encrypted, and nobody would give QEMU its key; decrypt it: qemu-img convert"
    if _number(head, 4, 4) >= 3 and _number(head, INCOMPATIBLE_AT, 8) & EXTERNAL_DATA:
        return "has its data in another file; make it one: qemu-img convert -O qcow2"
    return ""


def length(kind: str, head: bytes, file_bytes: int) -> int:
    """The image's length as the guest sees it."""
    return _number(head, LENGTH_AT, 8) if kind == "qcow2" else file_bytes


def _number(head: bytes, at: int, size: int) -> int:
    return int.from_bytes(head[at : at + size], "big")
