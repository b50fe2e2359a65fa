# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m lab.images: makes the images of all hosts and guests, so that parallel tests need not make them twice."""

from __future__ import annotations

import time
from collections.abc import Callable

from . import base, boot_guest, disk_guest, guest_image
from .rdma import image as rdma_image

MAKES: dict[str, Callable[[], object]] = {
    "the hosts' base image and their packages": lambda: base.apt_repo(base.rootfs()),
    "the hosts' Python wheels": base.wheels,
    "the guest with Redis": guest_image.build,
    "the guest with PostgreSQL on a disk": disk_guest.build,
    "the guest with a boot loader": boot_guest.build,
    "the guest with Soft-RoCE": rdma_image.build,
}


def main() -> None:
    for name, make in MAKES.items():
        began = time.monotonic()
        make()
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
