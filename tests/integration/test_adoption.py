# SPDX-License-Identifier: GPL-3.0-or-later
"""A lone leader's daemon is killed between two commands to its QEMU: the next daemon adopts its QEMU, and serves."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
from pathlib import Path

import pytest
from harness import connect

LEFT = {
    "between stop and cont": [("stop", {})],
    "after a capture": [("stop", {}), ("migrate", {"uri": "unix:{reads}"})],
    "in a capture": [("stop", {}), ("migrate", {"uri": "unix:{hangs}"})],
}


@contextlib.contextmanager
def sockets(folder: Path):
    """What QEMU can migrate to: {"hangs": a socket that nobody reads, "reads": one that somebody reads to the end}."""
    with socket.socket(socket.AF_UNIX) as hangs, socket.socket(socket.AF_UNIX) as reads:
        paths = {"hangs": str(folder / "hangs"), "reads": str(folder / "reads")}
        for listener, path in ((hangs, paths["hangs"]), (reads, paths["reads"])):
            listener.bind(path)
            listener.listen()

        def read() -> None:
            with contextlib.suppress(OSError), reads.accept()[0] as connection:
                while connection.recv(1 << 16):
                    pass

        threading.Thread(target=read, daemon=True).start()
        yield paths


def tell_qemu(path: str, targets: dict[str, str], *commands: tuple[str, dict]) -> None:
    """As the daemon that is gone would have done. QMP takes one client at a time."""
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.settimeout(10)
        qmp.connect(path)
        lines = qmp.makefile("r")
        lines.readline()
        for command, arguments in [("qmp_capabilities", {}), *commands]:
            arguments = {key: value.format(**targets) for key, value in arguments.items()}
            qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
            while "return" not in (answer := json.loads(lines.readline())):
                assert "error" not in answer, answer


@pytest.mark.parametrize("left", LEFT)
def test_a_vm_that_was_left_stopped_goes_on_with_the_next_daemon(group, left, tmp_path):
    client = connect()
    assert client.ask("SET", "kept", "1") == b"+OK"
    group.power_off("secondary")
    group.wait("primary", service="degraded")
    qemu = group.qemu_pid("primary")
    group.daemons["primary"].send_signal(signal.SIGKILL)
    group.daemons.pop("primary").wait()
    with sockets(tmp_path) as targets:
        tell_qemu(str(group.run_folder("primary") / "qmp.sock"), targets, *LEFT[left])
    group.start("primary")
    group.wait("primary", service="degraded")
    assert client.ask("GET", "kept") == b"1"
    assert group.qemu_pid("primary") == qemu
    group.start("secondary")
    group.wait("primary", service="protected")
    report = group.audit()
    assert (report["mismatching"], report["untracked"]) == (0, 0), report
