# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the guest's kernel in memory survive a reset? Linux boot protocol, "The Real-Mode Kernel Header".

QEMU hands a bzImage to the firmware, which puts it into memory when the VM boots. The segments of any other image (an ELF
file with a PVH note, a multiboot image) are written into guest memory by QEMU itself, at each reset (hw/core/loader.c,
rom_reset). A secondary is reset before each load, so the kernel's data would be those of its boot again.

Without a kernel of ours nothing of that kind is left: SeaBIOS, its option ROMs and its tables lie in memory blocks of their own
or in fw_cfg, and a reset writes only there. What SeaBIOS has copied into guest memory is the guest's, and stays as it is.
"""

from __future__ import annotations

from ..errors import QemuError

MAGIC, MAGIC_AT = b"HdrS", 0x202
ELF = b"\x7fELF"


def check(path: str) -> None:
    """Raises QemuError, with the setting and the remedy, unless the file is a bzImage."""
    try:
        with open(path, "rb") as file:
            head = file.read(MAGIC_AT + len(MAGIC))
    except OSError as error:
        raise QemuError(f"guest_kernel: {path}: {error.strerror}") from error
    if head[MAGIC_AT:] != MAGIC:
        kind = "an ELF file (vmlinux)" if head[:4] == ELF else "no bzImage"
        raise QemuError(
            f"guest_kernel: {path} is {kind}; QEMU would write parts of it over the VM's memory at each syncvm. "
            "Give the compressed kernel (vmlinuz, bzImage)"
        )
