# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel that QEMU puts into memory itself, again at each reset: it is refused; and if it were not, an audit would see."""

from __future__ import annotations

import ctypes
import struct

from harness import connect

from lab.guest_image import build

LZ4_MAGIC, LZ4_BLOCK_BYTES = b"\x02\x21\x4c\x18", 8 << 20  # of its legacy format, in which Debian's cloud kernel is packed


def vmlinux(bzimage: bytes) -> bytes:
    """The ELF kernel in a bzImage (Documentation/arch/x86/boot.rst)."""
    at, length = struct.unpack_from("<II", bzimage, 0x248)
    at += ((bzimage[0x1F1] or 4) + 1) * 512
    packed, out = bzimage[at : at + length], []
    assert packed[:4] == LZ4_MAGIC
    at, buffer, lz4 = 4, ctypes.create_string_buffer(LZ4_BLOCK_BYTES), ctypes.CDLL("liblz4.so.1")
    while at + 4 < length:
        size = struct.unpack_from("<I", packed, at)[0]
        got = lz4.LZ4_decompress_safe(packed[at + 4 : at + 4 + size], buffer, size, LZ4_BLOCK_BYTES)
        if got <= 0:
            break  # behind the last block comes the size of all
        out.append(buffer.raw[:got])
        at += 4 + size
    elf = b"".join(out)
    assert elf[:4] == b"\x7fELF"
    return elf


def test_an_elf_kernel_is_refused_and_an_audit_would_see_what_its_resets_write(new_group, tmp_path):
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(vmlinux(build().kernel.read_bytes()))
    group = new_group(guest_kernel=str(kernel))
    group.start()
    group.wait_for_log("primary", "vmlinux is an ELF file (vmlinux)")
    group.stop()
    group.start(replica="any_kernel_replica")
    group.settled()
    assert connect().ask("SET", "a", "1") == b"+OK"
    report = group.audit()
    assert report["mismatching"] > 0, report
