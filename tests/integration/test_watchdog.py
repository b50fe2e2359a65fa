# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchdog's adapter on a real device: it fires when it is not fed or left armed, and only then."""

from __future__ import annotations

import json
import selectors
import socket
import tempfile
import time
from pathlib import Path

import pytest
import watchdog_guest

SECONDS_MAX = 120


def connect(path: Path) -> socket.socket:
    end = time.monotonic() + 10
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def story(folder: Path) -> list[str]:
    """What the guest said and what the device did, in order: marks without 'MARK ', and 'FIRED'."""
    out, rest = [], {"console": b"", "qmp": b""}
    with selectors.DefaultSelector() as selector:
        for name in ("qmp", "console"):  # in the order in which QEMU waits for them
            sock = connect(folder / name)
            selector.register(sock, selectors.EVENT_READ, name)
            if name == "qmp":
                sock.sendall(b'{"execute": "qmp_capabilities"}\n')
        end = time.monotonic() + SECONDS_MAX
        while time.monotonic() < end and (not out or out[-1] != "end"):
            for key, _ in selector.select(1.0):
                data = key.fileobj.recv(65_536)
                if not data:
                    return out
                *lines, rest[key.data] = (rest[key.data] + data).split(b"\n")
                for line in lines:
                    if key.data == "console" and line.startswith(b"MARK "):
                        out.append(line[5:].decode().strip())
                    elif key.data == "qmp" and json.loads(line).get("event") == "WATCHDOG":
                        out.append("FIRED")
                    elif key.data == "console" and line.strip():
                        print(line.decode(errors="replace").rstrip())
    return out


@pytest.fixture
def short_folder():
    with tempfile.TemporaryDirectory(prefix="plw") as path:
        yield Path(path)


def test_it_fires_when_it_is_not_fed_or_left_armed_and_never_otherwise(short_folder):
    image = watchdog_guest.build(short_folder)
    qemu = watchdog_guest.start(image, short_folder)
    try:
        said = story(short_folder)
    finally:
        qemu.kill()
        qemu.wait()
    words = [line.split(" ")[0] for line in said]
    assert words == [
        "checked",
        "armed",
        "fed",
        "second",
        "FIRED",
        "starved",
        "disarmed",
        "FIRED",
        "abandoned",
        "taken",
        "released",
        "nowayout",
        "missing",
        "no",
        "no",
        "end",
    ], said
    by = {line.split(" fence_")[0]: line for line in said}
    assert "checked False" in said and "taken up armed" in said
    assert any(line.startswith("armed /dev/watchdog0 (i6300ESB") and line.endswith(", 2 s, armed") for line in said), said
    assert "another program (systemd's RuntimeWatchdogSec?" in by["second"]
    assert "is set to 'nowayout'" in by["nowayout"]
    assert "No such file" in by["missing"] and "modprobe softdog" in by["missing"]
    assert "is no device" in by["no device"] and "Inappropriate ioctl" in by["no watchdog"]
