# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a guest's kernel one that stays as it is at a reset? Linux boot protocol, "The Real-Mode Kernel Header".

QEMU hands a bzImage to the firmware, which puts it into memory when the VM boots. The segments of any other image (an ELF
file with a PVH note, a multiboot image) QEMU writes into guest memory itself, at each reset (hw/core/loader.c, rom_reset).
There is a reset in front of each load of a secondary: the kernel's data would go back to what it was at boot.
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
