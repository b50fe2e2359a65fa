# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the daemon of a VM on this host: one JSON line each way over its UNIX socket. For the Ansible modules."""
from __future__ import annotations

import json
import socket
import time

REPLY_BYTES_MAX = 1 << 20


class ClientError(Exception):
    """The daemon does not answer, or answers nonsense."""


def ask(name, command, run_dir="/run/plover", timeout_s=10.0):
    """The daemon's reply to ``command`` as a dictionary; raises ClientError."""
    path = f"{run_dir}/{name}/ctl.sock"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(path)
            sock.sendall(json.dumps({"cmd": command}).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                chunk = sock.recv(65536)
                if not chunk:
                    raise ClientError(f"{path}: the daemon closed the connection in mid-answer")
                data += chunk
                if len(data) > REPLY_BYTES_MAX:
                    raise ClientError(f"{path}: an answer of over {REPLY_BYTES_MAX} bytes")
        reply = json.loads(data)
    except (OSError, ValueError) as error:
        raise ClientError(f"{path}: {error}; is the unit plover-replica@{name} or plover-witness@{name} running?") from error
    if not isinstance(reply, dict):
        raise ClientError(f"{path}: the answer is no JSON object")
    return reply


def wait_for_service(name, wanted, timeout_s, run_dir="/run/plover"):
    """The status once its service is ``wanted``; raises ClientError with the daemon's own sentence on time-out."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            status = ask(name, "status", run_dir)
            if status.get("service") == wanted:
                return status
            said = "{}, {}: {}".format(status.get("role"), status.get("service"), status.get("sentence"))
        except ClientError as error:
            said = str(error)
        if time.monotonic() >= end:
            raise ClientError(f"VM {name} is not {wanted} after {timeout_s} s (timeout_s). The daemon says: {said}")
        time.sleep(0.2)
