# SPDX-License-Identifier: GPL-3.0-or-later
"""Three real daemons over QEMUs that misbehave, and a client that would notice a lost or a doubled answer."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

import harness
from harness import REPLICAS
from hostile_guest import ETHERTYPE, MAGIC, NUMBERS_MAX, REPLY
from misbehaviour import Director

HERE = Path(__file__).parent
MAC = "52:54:00:70:6c:01"
BRIDGE_MAC = bytes.fromhex("02706c000001")
ASK_AGAIN_S = 0.25
AGAIN_S_MAX = 45.0
SO_RCVBUFFORCE, ROOM_BYTES = 33, 64 << 20


class HostileGroup(harness.Group):
    python_path = f"{harness.RUNTIME}:{HERE}"

    def __init__(self, folder: Path, **more) -> None:
        super().__init__(
            folder,
            qemu_binary=str(HERE / "qemu_double.py"),
            qemu_user="root",
            guest_memory_mib=32,
            guest_addresses=[],
            join_timeout_ms=5000,
            **more,
        )
        self.orders = {member: Director(self.run_folder(member)) for member in REPLICAS}

    def start(self, *members: str, replica: str = "hurried_replica") -> None:
        super().start(*members, replica=replica)

    def qemu_pid(self, member: str) -> int:
        for pid in harness.sh("ip", "netns", "pids", harness.NETNS).split():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"qemu_double.py" in words and self.memory_folder(member).encode() in words:
                    return int(pid)
        raise ProcessLookupError(f"{member} has no QEMU")

    def protected(self, seconds: float = AGAIN_S_MAX) -> tuple[str, str]:
        """Leader and secondary, once both are in sync and neither is about to leave."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check_daemons()
            for member in REPLICAS:
                status = self.status(member)
                if (status.get("role"), status.get("service")) == ("leader", "protected"):
                    return member, next(m for m in REPLICAS if m != member)
            time.sleep(0.05)
        raise AssertionError(f"not protected again within {seconds} s: {self.story()}")

    def story(self) -> str:
        """What each member says of itself now, and the end of its log, short: there are hundreds of cases."""
        logs = {
            member: [line[24:] for line in self.log(member).splitlines() if "could not run" not in line][-6:] for member in self.daemons
        }
        says = {member: self.status(member).get("sentence") for member in logs}
        return "\n".join(f"{member}: {says[member]}; {'; '.join(log)}" for member, log in logs.items())

    def stop(self) -> None:
        for member in [member for member, daemon in self.daemons.items() if daemon.poll() is not None]:
            del self.daemons[member]
            with contextlib.suppress(OSError):
                self.kill_qemu(member)
        super().stop()

    def check_daemons(self) -> None:
        ended = {member: daemon.returncode for member, daemon in self.daemons.items() if daemon.poll() is not None}
        assert not ended, f"these daemons ended: {ended}: {self.story()}"

    def torn(self) -> list[str]:
        return [f"{member}: {line}" for member, orders in self.orders.items() for line in orders.torn()]


class Client:
    """Asks one thing at a time, and again; each answer must go on from all that was answered before."""

    def __init__(self) -> None:
        self._socket = packet_socket()
        self._number = 0
        self._pending: list[bytes] = []  # asked, and not yet known to be counted or lost
        self._seen: set[tuple[int, bytes]] = set()
        self.count, self._digest = 0, bytes(16)

    def ask(self, seconds: float = AGAIN_S_MAX) -> float:
        """Until there is a new answer; how long that took."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            self._number += 1
            payload = self._number.to_bytes(50)
            self._pending.append(payload)
            frame = bytes.fromhex(MAC.replace(":", "")) + BRIDGE_MAC + ETHERTYPE + payload[-46:]
            self._socket.send(frame)
            if self._answer(time.monotonic() + ASK_AGAIN_S):
                return time.monotonic() - began
        raise AssertionError(f"no answer in {seconds} s")

    def _answer(self, end: float) -> bool:
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(2048)
            except TimeoutError:
                return False
            if data[12:14] == ETHERTYPE and data[14:18] == MAGIC:
                _magic, count, digest = REPLY.unpack_from(data, 14)
                if (count, digest) not in self._seen:
                    self._check(count, digest, data[14 + REPLY.size :])
                    return True
        return False

    def _check(self, count: int, digest: bytes, numbers: bytes) -> None:
        """It counts what was counted when it answered last, and some of what was asked since.

        In any order: what came in just before a failover may be fed after what came in behind it, as on any network.
        """
        more = count - self.count
        assert more > 0, f"time went back: {self.count} frames were counted, now {count}"
        chosen = [numbers[at : at + 4] for at in range(4 * (min(count, NUMBERS_MAX) - more), 4 * min(count, NUMBERS_MAX), 4)]
        value, pending = self._digest, {payload[-4:]: payload for payload in self._pending}
        assert len(chosen) == more and pending.keys() >= set(chosen), f"the VM made up a frame: {chosen} of {pending.keys()}"
        for number in chosen:
            value = hashlib.blake2b(value + pending[number][-46:], digest_size=16).digest()
        assert value == digest, f"the VM has forgotten a frame: {count} counted after {self.count}"
        self._pending = [payload for payload in self._pending if payload[-4:] not in chosen]
        self.count, self._digest = count, digest
        self._seen.add((count, digest))


def packet_socket() -> socket.socket:
    """On the bridge of the test's namespace."""
    libc, made = ctypes.CDLL(None, use_errno=True), []

    def make() -> None:
        with open(f"/run/netns/{harness.NETNS}", "rb") as netns:
            if libc.setns(netns.fileno(), 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
            out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(int.from_bytes(ETHERTYPE)))
            # A new leader sends again all that its VM has said since its last load, while the client may look elsewhere.
            out.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM_BYTES)
            out.bind(("br0", int.from_bytes(ETHERTYPE)))
            made.append(out)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
