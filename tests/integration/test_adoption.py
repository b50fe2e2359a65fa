# SPDX-License-Identifier: GPL-3.0-or-later
"""A lone leader's daemon is killed between two commands to its QEMU: the next daemon adopts its QEMU, and serves."""

from __future__ import annotations

import json
import signal
import socket

import pytest
from harness import connect

LEFT = {
    "between stop and cont": [("stop", {})],
    "after a capture": [("stop", {}), ("migrate", {"uri": "exec:cat >/dev/null"})],
    "in a capture": [("stop", {}), ("migrate", {"uri": "unix:{hangs}"})],
}


def tell_qemu(path: str, hangs: str, *commands: tuple[str, dict]) -> None:
    """As the daemon that is gone would have done. QMP takes one client at a time. ``hangs``: a socket that nobody reads."""
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.settimeout(10)
        qmp.connect(path)
        lines = qmp.makefile("r")
        lines.readline()
        for command, arguments in [("qmp_capabilities", {}), *commands]:
            arguments = {key: value.format(hangs=hangs) for key, value in arguments.items()}
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
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(str(tmp_path / "hangs"))
        hangs.listen()
        tell_qemu(str(group.run_folder("primary") / "qmp.sock"), str(tmp_path / "hangs"), *LEFT[left])
    group.start("primary")
    group.wait("primary", service="degraded")
    assert client.ask("GET", "kept") == b"1"
    assert group.qemu_pid("primary") == qemu
    group.start("secondary")
    group.wait("primary", service="protected")
    report = group.ctl("primary", "audit")
    assert report["ok"] and (report["mismatching"], report["untracked"]) == (0, 0), report
