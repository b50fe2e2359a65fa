# SPDX-License-Identifier: GPL-3.0-or-later
"""The baseline of the input path: the same TAP and the same socket, with only reads and writes in between.

It is as little as a Python program can do: one read and one write per frame, no log, no other host, nothing is held.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from plover.dataplane.tap import Tap
from plover.protocol.frames import FrameBuffer, split, wrap

from .input_replica import SOCKET

READ_BYTES = 64 << 10


def main(folder: Path, tap_name: str) -> None:
    tap = Tap(tap_name, "br0", str(folder / "ifup"), str(folder / "ifdown"), time.monotonic)
    subprocess.run([folder / "ifup", tap_name], check=True)
    vm = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    vm.connect(str(folder / SOCKET))
    frames = FrameBuffer()
    while True:
        ready, _, _ = select.select([tap.fd, vm], [], [])
        if tap.fd in ready:
            vm.sendall(wrap(os.read(tap.fd, READ_BYTES)))
        if vm in ready:
            data = vm.recv(READ_BYTES)
            if not data:
                return
            for frame in split(frames.feed(data)):
                os.write(tap.fd, frame)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
