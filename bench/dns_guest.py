# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's guest with a name server: dnsmasq, which answers for each name below bench.test from its memory, over UDP."""

from __future__ import annotations

import functools
import hashlib
import json
import socket
import struct
from pathlib import Path

from lab import guest_image
from lab.guest_image import Image, cpio, libraries, versions
from lab.paths import CACHE, ROOT

GUEST = ROOT / "bench" / "guest"
INIT = "/bench/init"
DOMAIN = "bench.test"
PACKAGES = [
    "dnsmasq-base",
    "libc6",
    "libcap2",
    "libdbus-1-3",
    "libgcrypt20",
    "libgmp10",
    "libgpg-error0",
    "libhogweed6",
    "libidn2-0",
    "libjansson4",
    "liblz4-1",
    "liblzma5",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnettle8",
    "libnfnetlink0",
    "libnftables1",
    "libnftnl11",
    "libsystemd0",
    "libunistring2",
    "libxtables12",
    "libzstd1",
]
OWN_FILES = {"dns-init": "bench/init", "dnsmasq.conf": "etc/dnsmasq.conf"}
QUESTION = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\1a\5bench\4test\0" + struct.pack("!2H", 1, 1)  # RFC 1035, section 4: type A
ADDRESS = bytes((192, 0, 2, 1))


def initrd(base: bytes, tree: Path) -> bytes:
    """The kernel unpacks one archive after the other."""
    program = tree / "usr/sbin/dnsmasq"
    more = {
        "bin/dnsmasq": (0o100755, program.read_bytes()),
        "etc/group": (0o100644, b"root:x:0:\n"),  # dnsmasq does not start without one; etc/passwd is the lab's
        **{place: (0o100755, (GUEST / name).read_bytes()) for name, place in OWN_FILES.items()},
        **{f"lib/{name}": (0o100755, path.read_bytes()) for name, path in libraries(tree, program).items()},
    }
    return base + bytes(-len(base) % 512) + cpio(more)


@functools.cache
def build() -> Image:
    """Of today's Debian packages, from the cache if possible."""
    base = guest_image.build()
    inputs = [Path(__file__), *(GUEST / name for name in OWN_FILES)]
    known = [base.initrd.parent.name, versions(PACKAGES), [path.read_text() for path in inputs]]
    target = CACHE / f"dns-guest-{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}"
    if not (target / "initrd.img").exists():

        def fill(tree: Path, out: Path) -> None:
            (out / "initrd.img").write_bytes(initrd(base.initrd.read_bytes(), tree))

        guest_image.make(target, PACKAGES, fill)
    return Image(base.kernel, target / "initrd.img")


def answers(address: str, seconds: float) -> bool:
    """Is a name looked up?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.sendto(QUESTION, (address, 53))
        return ADDRESS in sock.recv(512)
