# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM of a hostile QEMU: it answers each frame with what it has counted, and knows which memory belongs to its devices.

As in QEMU (net/stream.c, hw/net/virtio-net.c), a frame that the socket does not take waits and goes out later, whether the
VM runs or not. Each sent frame changes guest memory. A reset drops waiting frames, even the rest of a half-sent one.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections import deque
from collections.abc import Callable

PAGE = 4096
ETHERTYPE = b"\x88\xb5"  # IEEE: for local experiments
REPLY = struct.Struct("!4sQ16s")  # magic, frames counted, digest over all of them
MAGIC = b"CNTR"
NUMBER, NUMBERS_MAX = slice(56, 60), 200  # of a frame: the client's; so many of them are in an answer
COUNTER_PAGE, USED_PAGE, OWN_PAGE, FIRST_PAGE = range(4)


class Guest:
    def __init__(self, path: str, size: int, mac: bytes, torn: Callable[[str], None]) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, size)
        self._memory = mmap.mmap(fd, size)
        os.close(fd)
        self._pages, self.mac, self._torn = size // PAGE, mac, torn
        self.running = False
        self.queue: deque[bytes] = deque()  # frames with their lengths
        self.sent_of_first = 0
        self.boot()

    def boot(self) -> None:
        """Registers only, as a reset does."""
        self.count, self.used, self.digest = 0, 0, bytes(16)
        self.numbers = b""  # of the frames counted last
        self.written: dict[int, str] = {}  # page -> what the VM wrote there last
        self.queue.clear()
        self.sent_of_first = 0

    def take(self, frame: bytes) -> bool:
        """A frame from the wire; True if it is answered."""
        if frame[:6] != self.mac or frame[12:14] != ETHERTYPE:
            return False
        self.count += 1
        self.numbers = (self.numbers + frame[NUMBER])[-4 * NUMBERS_MAX :]
        self.digest = hashlib.blake2b(self.digest + frame[14:], digest_size=16).digest()
        self._write(COUNTER_PAGE, self.digest + struct.pack("!Q", self.count))
        self._write(OWN_PAGE, os.urandom(16))  # as a clock would: equal on no two hosts
        self._write(FIRST_PAGE + int.from_bytes(self.digest[:4]) % (self._pages - FIRST_PAGE), self.digest)
        self.send(frame[6:12] + self.mac + ETHERTYPE + REPLY.pack(MAGIC, self.count, self.digest) + self.numbers)
        return True

    def send(self, frame: bytes) -> None:
        frame = frame.ljust(60, b"\0")
        self.queue.append(struct.pack("!I", len(frame)) + frame)

    def gone(self) -> None:
        """The first frame that waits has left."""
        self.queue.popleft()
        self.sent_of_first = 0
        self.used += 1
        self._write(USED_PAGE, struct.pack("!Q", self.used))

    def _write(self, page: int, data: bytes) -> None:
        self._memory[page * PAGE : page * PAGE + len(data)] = data
        self.written[page] = data.hex()

    # ---- devices ------------------------------------------------------------------------------------
    def save(self) -> bytes:
        return json.dumps(
            {
                "count": self.count,
                "digest": self.digest.hex(),
                "used": self.used,
                "numbers": self.numbers.hex(),
                "written": self.written,
                "queue": [frame.hex() for frame in self.queue],
            }
        ).encode()

    def load(self, state: bytes) -> None:
        """Raises ValueError or KeyError if it is no state of ours."""
        values = json.loads(state)
        self.count, self.used, self.digest = values["count"], values["used"], bytes.fromhex(values["digest"])
        self.numbers = bytes.fromhex(values["numbers"])
        self.written = {int(page): data for page, data in values["written"].items()}
        self.queue = deque(bytes.fromhex(frame) for frame in values["queue"])
        self.look("load")

    def look(self, when: str) -> None:
        """Is memory what the VM wrote last?"""
        for page, data in self.written.items():
            found = self._memory[page * PAGE : page * PAGE + len(data) // 2].hex()
            if found != data:
                self._torn(f"{when}: page {page} has {found}, the VM wrote {data}")
