# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM boots from, and its cloud-init seed: problems that show in the inventory alone. Pure."""

from __future__ import annotations

from ...plover.config.boot import BIOS, NO_UEFI, UEFI
from ...plover.qemu.kernel_image import ELF
from .known import CLOUD_INIT_KEYS, close_to, unplaced

TEXT_BYTES_MAX = 1 << 20
# How user data may begin (cloud-init, "User-data formats"); it ignores all others.
STARTS = ("#", "Content-Type:", "MIME-Version:", "From ")
FILES = ("kernel", "initrd", "cdrom")


def place(vm, part):
    """Where role vm puts a file, which plover_info exports: it is on the hosts already."""
    return f"/var/lib/plover/images/{vm.get('name')}/{part}"


def problems(at, vm, head):
    out = [text for key in FILES for text in _file(at, vm, key, head)]
    firmware = vm.get("firmware")
    if firmware == UEFI:
        out.append(f"{at}.firmware: uefi is not supported: {NO_UEFI}")
    elif firmware not in (None, "", BIOS):
        out.append(f"{at}.firmware: {firmware} is not one of bios; remove it")
    return out + _cloud_init(at, vm)


def _file(at, vm, key, head):
    value = vm.get(key)
    if not isinstance(value, str) or value in ("", place(vm, key)):
        return []
    if unplaced(value):
        return [f"{at}.{key}: {unplaced(value)}"]
    if head(value) is None:
        return [f"{at}.{key}: {value} is not a file on this machine; give the path of the image"]
    if key == "kernel" and head(value)[:4] == ELF:
        return [
            f"{at}.{key}: {value} is an ELF file (vmlinux), parts of which QEMU would write over the VM's "
            "memory at each syncvm; give the compressed kernel (vmlinuz, bzImage)"
        ]
    return []


def _cloud_init(at, vm):
    given = vm.get("cloud_init")
    if given in (None, "", place(vm, "seed")):
        return []
    if not isinstance(given, dict) or not given.get("user_data"):
        return [f"{at}.cloud_init: must be a mapping with at least user_data, like {{user_data: '#cloud-config …'}}"]
    out = [
        f"{at}.cloud_init.{key}: is not known; {close_to(key, CLOUD_INIT_KEYS) or 'remove it, known are ' + ', '.join(CLOUD_INIT_KEYS)}"
        for key in given
        if key not in CLOUD_INIT_KEYS
    ]
    for key in CLOUD_INIT_KEYS:
        value = given.get(key)
        if value is not None and not isinstance(value, (str, dict)):
            out.append(f"{at}.cloud_init.{key}: must be a text or a mapping")
        elif isinstance(value, str) and len(value.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
            out.append(f"{at}.cloud_init.{key}: is longer than {TEXT_BYTES_MAX >> 20} MiB; let the guest fetch the rest")
    data = given["user_data"]
    if isinstance(data, str) and not data.startswith(STARTS):
        out.append(
            f"{at}.cloud_init.user_data: does not begin as cloud-init wants it, so it would be ignored; let its first line be #cloud-config"
        )
    return out
