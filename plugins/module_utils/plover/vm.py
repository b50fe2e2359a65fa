# SPDX-License-Identifier: GPL-3.0-or-later
"""One running QEMU, driven from outside: QMP, network socket, COLO loop. One object per QEMU process."""
from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from . import qemu_user
from .block import BlockLayer
from .colo import ColoPeer, device_state
from .config import Config
from .disk_copy import DiskCopy
from .errors import QemuError
from .frames import FrameBuffer
from .idle import IdleMonitor
from .joining import DISK_COPY
from .qemu import DEVICE_STATE, START_TIMEOUT_S, prepare, sockets, supervisor
from .qmp import Qmp, peer_pid

BACKLOG_BYTES_MAX = 4 << 20
READ_BYTES = 64 << 10  # a larger read gets fresh memory from the kernel each time: 33 us for a small frame, not 4
FULL_BYTES = 8 << 10  # a socket with less in it was not full: its buffer takes some 270 of the smallest frames
STREAM_BYTES_MAX = 48 << 20
CAPTURE_TIMEOUT_S = 15.0
KILL_TIMEOUT_S = 10.0


class Vm:
    def __init__(self, config: Config, on_output: Callable[[bytes], None], on_exit: Callable[[str], None],
                 disk_copy: DiskCopy | None = None) -> None:
        self.config, self._on_output, self._on_exit = config, on_output, on_exit
        self._supervisor = supervisor(config)
        self._paths = sockets(config)
        self._loop = asyncio.get_running_loop()
        self._frames = FrameBuffer()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = self.dropped_bytes = 0
        self._colo: ColoPeer | None = None
        self._net: socket.socket | None = None
        self._pidfd = -1
        self.pid = 0
        self.monitor: IdleMonitor | None = None
        self.qmp: Qmp | None = None
        self.block: BlockLayer | None = None
        self.disk_copy = disk_copy or DiskCopy(config)

    # ---- life -----------------------------------------------------------------------------------------
    async def start(self, incoming: bool, view: int = 0) -> dict:
        """Start QEMU in ``view``; returns the facts that must be equal on both replicas.

        A secondary's images are not exported yet: see disk_work.py.
        """
        await asyncio.to_thread(prepare, self.config, incoming)
        held = await asyncio.to_thread(self.disk_copy.begin if incoming else self.disk_copy.booted, view)
        await self._supervisor.start()
        facts = await self._attach()
        if incoming and self.config.disks:
            facts[DISK_COPY] = {"held": held, "next": self.disk_copy.name}
        if incoming:
            await self.qmp.capabilities(x_colo=True, x_ignore_shared=True)
            await self.qmp.execute("migrate-incoming", uri=f"unix:{self._paths['colo']}")
        return facts

    async def adopt(self) -> dict:
        """Take over a QEMU that ran before this daemon did."""
        return await self._attach()

    async def _attach(self) -> dict:
        self.qmp = await Qmp.connect(self._paths["qmp"], START_TIMEOUT_S)
        self.pid = self.qmp.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        self._net = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._net.setblocking(False)
        self._net.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        await self._loop.sock_connect(self._net, self._paths["net"])
        self.monitor = IdleMonitor(self.pid, self._net.fileno())
        self._loop.add_reader(self._net.fileno(), self.read_output)
        self.block = BlockLayer(self.config, self.qmp)
        version = (await self.qmp.execute("query-version"))["qemu"]
        return {
            "qemu_version": "{major}.{minor}.{micro}".format(**version),
            **{key: getattr(self.config, key) for key in (
                "guest_memory_mib", "guest_vcpus", "guest_machine", "guest_cpu", "guest_accel", "guest_nic",
                "guest_mac", "syncvm_mode")},
            **({"disk_bytes": await self.block.sizes()} if self.config.disks else {})}

    def _exited(self) -> None:
        self._detach()
        self._closing = self._loop.create_task(self.qmp.close())
        self._on_exit("QEMU ended (see its unit's journal)")

    def _detach(self) -> None:
        if self._net:
            self._loop.remove_reader(self._net.fileno())
            self._loop.remove_writer(self._net.fileno())
            self._net.close()
            self._net = None
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._colo:
            self._colo.close()
            self._colo = None
        if self.monitor:
            self.monitor.close()

    async def kill(self) -> None:
        """End QEMU now, whoever started it, and wait until it is gone."""
        pid = self.pid or running_qemu(self.config)
        self._detach()
        if pid:
            await _end(pid)
        await self._supervisor.stop()
        if self.qmp:
            await self.qmp.close()

    # ---- network ----------------------------------------------------------------------------------------
    def inject(self, payload: bytes) -> None:
        """Feed wrapped frames; never blocks. What a stuck VM does not take is dropped, bounded, whole entries."""
        if self._net is None:
            return
        self.monitor.disturb()
        if self._backlog:
            if self._backlog_bytes + len(payload) > BACKLOG_BYTES_MAX:
                self.dropped_bytes += len(payload)
                return
            self._backlog.append(payload)
            self._backlog_bytes += len(payload)
            return
        rest = self._send(payload)
        if rest:
            self._backlog.append(rest)
            self._backlog_bytes += len(rest)
            self._loop.add_writer(self._net.fileno(), self._flush_backlog)

    def _send(self, payload: bytes) -> bytes:
        """Returns what the socket did not take."""
        try:
            return payload[self._net.send(payload):]
        except BlockingIOError:
            return payload
        except OSError:
            return b""  # QEMU is going; its exit is noticed elsewhere

    def _flush_backlog(self) -> None:
        while self._backlog:
            head = self._backlog.popleft()
            self._backlog_bytes -= len(head)
            rest = self._send(head)
            if rest:
                self._backlog.appendleft(rest)
                self._backlog_bytes += len(rest)
                return
        self._loop.remove_writer(self._net.fileno())

    async def _take_last_output(self) -> None:
        """After a stop: all output, also what QEMU could not write yet.

        A full socket leaves a frame waiting in QEMU, and behind it more in the card's queue. They go out as we read, stopped
        VM or not, and each changes the queue in guest memory and the device's state (hw/net/virtio-net.c,
        virtio_net_tx_complete): that must be over before either is copied. A QMP answer tells that QEMU's loop went round.
        """
        while self.read_output() >= FULL_BYTES:
            await self.qmp.execute("query-status")

    def read_output(self) -> int:
        """Take all output that is there now; how many bytes it was."""
        taken = 0
        while self._net is not None:
            try:
                data = self._net.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._loop.remove_reader(self._net.fileno())
                break
            taken += len(data)
            run = self._frames.feed(data)
            if run:
                self._on_output(run)
        return taken

    async def rests(self, limit_s: float) -> bool:
        """Wait, bounded, until the input is consumed and the VM is idle (paper §5.1). True if it is."""
        return await self.monitor.wait(limit_s) and not self._backlog

    async def drain(self, limit_s: float) -> None:
        """The same; at once if it was idle and got no input since."""
        if limit_s > 0 and not self.monitor.undisturbed:
            await self.rests(limit_s)

    # ---- the ordinary VM ----------------------------------------------------------------------------------
    async def stop(self) -> None:
        await self.qmp.execute("stop")
        await self._take_last_output()

    async def cont(self) -> None:
        await self.qmp.execute("cont")

    async def save_device(self) -> bytes:
        path = self.config.run_path / DEVICE_STATE
        await self.qmp.execute("xen-save-devices-state", filename=str(path), live=False)
        return device_state(path.read_bytes())

    async def capture_stream(self) -> bytes:
        """Migrate the stopped VM's devices to ourselves; guest RAM is shared and stays out (design §4.2)."""
        await self.qmp.capabilities(x_colo=False, x_ignore_shared=True)
        done: asyncio.Future[bytes] = self._loop.create_future()

        async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            parts, size = [], 0
            while chunk := await reader.read(READ_BYTES):
                parts.append(chunk)
                size += len(chunk)
                if size > STREAM_BYTES_MAX:
                    break
            writer.close()
            if not done.done():
                done.set_result(b"".join(parts))

        server = await asyncio.start_unix_server(receive, self._paths["capture"])
        try:
            if user := qemu_user.find(self.config):
                user.share_file(Path(self._paths["capture"]), qemu_user.SOCKET_MODE)
            await self.qmp.execute("migrate", uri=f"unix:{self._paths['capture']}")
            stream = await asyncio.wait_for(done, CAPTURE_TIMEOUT_S)
            await self._migration_ended()
        except asyncio.TimeoutError:
            raise QemuError(f"capturing the device stream took longer than {CAPTURE_TIMEOUT_S} s") from None
        finally:
            server.close()
        if len(stream) > STREAM_BYTES_MAX:
            raise QemuError(f"device stream over {STREAM_BYTES_MAX} bytes; is guest RAM not shared?")
        return stream

    async def _migration_ended(self) -> None:
        for _try in range(200):
            info = await self.qmp.execute("query-migrate")
            if info.get("status") == "completed":
                return
            if info.get("status") in ("failed", "cancelled"):
                raise QemuError(f"QEMU's migrate: {info.get('error-desc', info['status'])}")
            await asyncio.sleep(0.005)
        raise QemuError("QEMU's migrate did not end within a second of its stream")

    # ---- the COLO loop --------------------------------------------------------------------------------------
    async def feed_stream(self, stream: bytes) -> None:
        self._colo = await ColoPeer.connect(self._paths["colo"])
        await self._colo.feed(stream)

    async def colo_stop(self) -> None:
        await self._colo.stop()
        await self._take_last_output()

    async def colo_load(self, state: bytes, runs: bool = True) -> None:
        """Load a device state into the stopped VM; it runs on from there, or not."""
        # A device state leaves out what is as after a reset (vmstate subsections, e.g. "virtio/disabled"), so what this
        # VM did on its own since the last load would stay: a card disabled while its guest booted was dead after a
        # failover. The reset makes the load what it is in a migration: one into fresh devices. It leaves guest RAM alone.
        await self.qmp.execute_and_wait("system_reset", "RESET")
        self.monitor.disturb()
        await self._colo.load(state)
        if not runs:
            await self.qmp.execute("stop")

    async def promote(self, view: int = 0) -> None:
        """Leave the loop; the VM runs on as an ordinary one, and its overlays are merged into its images."""
        if self.config.disks:
            await self.block.end_export()
            await asyncio.to_thread(self.disk_copy.promoted, view)
        # QEMU stops the VM, leaves the loop and starts the VM again, all after it has answered: "running" asked too
        # early means the time before. The RESUME of that start is the end of it.
        await self.qmp.execute_and_wait("x-colo-lost-heartbeat", "RESUME")
        if self._colo:
            self._colo.close()
            self._colo = None


def running_qemu(config: Config) -> int:
    """Pid of a QEMU of this VM that runs already; 0 if none."""
    try:
        return peer_pid(sockets(config)["qmp"])
    except OSError:
        return 0


async def _end(pid: int) -> None:
    """SIGKILL by pidfd, so that a reused pid is never hit; returns once the process is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(fd, lambda: gone.done() or gone.set_result(None))
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        await asyncio.wait_for(gone, KILL_TIMEOUT_S)
    except ProcessLookupError:
        return
    except asyncio.TimeoutError:
        raise QemuError(f"QEMU (pid {pid}) does not end {KILL_TIMEOUT_S} s after SIGKILL; its host is in trouble") from None
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
