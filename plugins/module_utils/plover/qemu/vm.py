# SPDX-License-Identifier: GPL-3.0-or-later
"""One running QEMU, driven from outside: QMP, network socket, COLO loop. One object per QEMU process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from ..config import panics
from ..config.settings import Config
from ..core.join_request import COLO_LOOP, DISK_COPY, DISK_IDS, FURTHER_NICS, MACHINE_TYPE
from ..dataplane.last_output import LastOutput
from ..dataplane.vm_networks import VmNetworks
from ..disks.block_layer import BlockLayer
from ..disks.identity import identity
from ..disks.local_images import LocalImages
from ..errors import QemuError
from ..native.idle import IdleMonitor
from . import boot, colo_dialects, panic_device
from .colo import ColoPeer
from .launch_file import net_sockets, qmp_socket
from .process import START_TIMEOUT_S, check_flushes, flush_failed, prepare, supervisor
from .qmp import Qmp, peer_pid
from .saving import Saver

log = logging.getLogger("plover")
KILL_TIMEOUT_S = 10.0
LAST_OUTPUT_S = 2.0  # a card's queue holds a few MB at most, and the VM that fills it is stopped
ACCEPT_TURNS = 3  # turns of QEMU's main loop until it has accepted a new connection
OUTGOING = ("setup", "active", "pre-switchover", "device", "cancelling")  # states of a migration under way
COLO = "colo"  # QEMU's name of a connection that it got from us
ANNOUNCE = {"initial": 50, "max": 550, "rounds": 3, "step": 100}  # ms
UNREAD_LOOK_S = 0.0002
EXIT_GRACE_S = 0.2  # an ending QEMU closes its sockets first
# Settings that must be equal on both replicas.
GUEST = ("memory_mib", "vcpus", "topology", "machine", "cpu", "accel", "nic", "mac", "mtu")
COMMON = (*(f"guest_{key}" for key in GUEST), "syncvm_mode")
Part = TypeVar("Part")


class Vm:
    def __init__(
        self,
        config: Config,
        on_output: Callable[[bytes], None],
        on_exit: Callable[[str], None],
        on_broken: Callable[[str], None],
        images: LocalImages | None = None,
    ) -> None:
        """``on_broken(why)``: QEMU runs, but its network output can no longer be trusted."""
        self.config, self._on_output, self._on_exit, self._on_broken = config, on_output, on_exit, on_broken
        self._supervisor = supervisor(config)
        self._loop = asyncio.get_running_loop()
        self._net_paths = net_sockets(config)
        self.network = VmNetworks(len(self._net_paths), on_output, self._network_broke)
        self._colo: ColoPeer | None = None
        self._dialect = colo_dialects.ENABLED
        self._colo_socket: socket.socket | None = None  # before the COLO loop
        self._saver: Saver | None = None
        self._pidfd = -1
        self.pid = 0
        self._monitor: IdleMonitor | None = None
        self._qmp: Qmp | None = None
        self._block: BlockLayer | None = None
        self.images = images or LocalImages(config)
        self.replicated_saved: asyncio.Future[None] | None = None  # by a promotion: see LocalImages.save_replicated

    # ---- its parts: QemuError while QEMU is not open ----------------------------------------------------
    @property
    def qmp(self) -> Qmp:
        return _opened(self._qmp, "its monitor")

    @property
    def block(self) -> BlockLayer:
        return _opened(self._block, "its block layer")

    @property
    def monitor(self) -> IdleMonitor:
        return _opened(self._monitor, "its network")

    # ---- life -----------------------------------------------------------------------------------------
    async def start(self, incoming: bool, view: int = 0) -> dict[str, Any]:
        """Start QEMU in ``view``. Returns the facts that must be equal on both replicas.

        A secondary's images are not exported yet: see replica/disk_work.py.
        """
        if incoming and flush_failed(self.config):  # under the QEMU before this one
            await asyncio.to_thread(self.images.spoiled, view)
        await asyncio.to_thread(prepare, self.config, incoming)
        held = await asyncio.to_thread(self.images.begin if incoming else self.images.booted, view)
        await self._supervisor.start()
        await self._open()
        check_flushes(self.config, self.pid)
        facts = await self._attach()
        if incoming and self.config.disks:
            facts[DISK_COPY] = {"held": held, "next": self.images.name}
        if incoming:
            self._dialect = await colo_dialects.choose(self.qmp)
            self._check_dialect(facts["qemu_version"])
            facts[COLO_LOOP] = self._dialect.name
            # After each load the card asks the guest to announce itself, five times: once must do, it is asked again when it leads.
            # Not at all would end QEMU: virtio_net_reset() stops a timer that is gone then (QEMU 7.2, hw/net/virtio-net.c).
            await self.qmp.execute("migrate-set-parameters", **{"announce-rounds": 1})
            self._colo_socket = await self.qmp.give_socket(COLO)
            await self.qmp.execute("migrate-incoming", uri=f"fd:{COLO}")
        return facts

    async def adopt(self) -> dict[str, Any]:
        """Take over a QEMU that ran before this daemon. Its VM is stopped afterwards, until :meth:`cont`.

        The daemon before this one may have died after any command: the VM may run, be stopped, or have its devices captured.
        """
        await self._open()
        try:
            check_flushes(self.config, self.pid)
        except QemuError as error:  # an earlier version has started it; it is the only one that has this VM
            log.warning("a flush that fails may be forgotten until this QEMU ends: %s", error)
        await self.block.cut()  # a stop waits for the VM's writes, and these may wait for a secondary
        await self._end_migration()
        await self._step_in()
        await self.qmp.execute("stop")
        await self.block.merge.mend()
        self.block.hides_errors = bool(self.config.disks)  # a secondary's image may be attached; the leader detaches it
        return await self._attach()

    async def _open(self) -> None:
        qmp = self._qmp = await Qmp.connect(qmp_socket(self.config), START_TIMEOUT_S)
        self.pid = qmp.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        self._block, self._saver = BlockLayer(self.config, qmp), Saver(qmp)

    async def _attach(self) -> dict[str, Any]:
        """Connect to the VM's network cards. Returns the facts."""
        await self.network.connect(self._net_paths)
        self._monitor = IdleMonitor(self.pid, self.network.fileno())
        version = (await self.qmp.ask("query-version", qemu=dict))["qemu"]
        return {
            "qemu_version": ".".join(str(version.get(part)) for part in ("major", "minor", "micro")),
            MACHINE_TYPE: (await self.qmp.execute("qom-get", path="/machine", property="type")).removesuffix("-machine"),
            **{key: getattr(self.config, key) for key in COMMON},
            panics.DEVICE: await panic_device.is_there(self.qmp),
            FURTHER_NICS: [nic.seen for nic in self.config.nics[1:]],
            **(await boot.facts(self.config, self.qmp)),
            **(await self._disk_facts() if self.config.disks else {}),
        }

    async def _disk_facts(self) -> dict[str, Any]:
        names = [identity(disk.path) for disk in self.config.disk_list]
        return {"disk_bytes": await self.block.sizes(), DISK_IDS: names}

    def _exited(self) -> None:
        self._detach()
        self._closing = self._loop.create_task(self.qmp.close())
        self._on_exit("QEMU ended (see its unit's journal)")

    def _detach(self) -> None:
        self.network.close()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._colo:
            self._colo.close()
            self._colo = None
        if self._colo_socket:
            self._colo_socket.close()
            self._colo_socket = None
        if self._saver:
            self._saver.close()
            self._saver = None
        if self._monitor:
            self._monitor.close()

    async def kill(self) -> None:
        """Kill QEMU, whoever started it, and wait until it is gone."""
        pid = self.pid or running_qemu(self.config)
        self._detach()
        if pid:
            await _end(pid)
        await self._supervisor.stop()
        if self._qmp:
            await self._qmp.close()

    # ---- network ----------------------------------------------------------------------------------------
    def inject(self, payload: bytes) -> None:
        """Feed wrapped frames; never blocks."""
        if self.network.fileno() >= 0:
            self.monitor.disturb()
        self.network.inject(payload)

    def _network_broke(self, why: str) -> None:
        self._loop.call_later(EXIT_GRACE_S, self._tell_broken, why)

    def _tell_broken(self, why: str) -> None:
        if self._pidfd >= 0 and self.network.broken:  # otherwise QEMU has ended, or the VM runs on with another connection
            self._on_broken(why)

    async def _take_last_output(self, last: LastOutput) -> None:
        """Take all output of the VM that has just been stopped, including frames that QEMU could not write yet."""
        end = self._loop.time() + LAST_OUTPUT_S
        self.network.read()
        await self.qmp.execute("query-status")
        self.network.read()
        while not last.over(self.network.taken_bytes):
            if self._loop.time() > end:
                raise QemuError(f"QEMU still sends {LAST_OUTPUT_S} s after its VM was stopped: memory is not at rest")
            await self.qmp.execute("query-status")
            self.network.read()
        self.network.end_with_whole_frames()
        if self.network.broken:
            raise QemuError(self.network.broken)

    async def _step_in(self) -> None:
        """Make QEMU begin the next connection of each card with a whole frame. Frames sent meanwhile are lost, as on any wire.

        QEMU sends the rest of a partly sent frame on the next connection (net/stream.c: send_index outlives the connection).
        A failed write makes QEMU forget that rest. So connect a reader that takes nothing, and make QEMU write to it: a
        frame that waits is sent while the VM runs for a moment; if none waits, an announcement is.
        """
        with contextlib.ExitStack() as open_ones, contextlib.suppress(QemuError):
            for path in self._net_paths:
                deaf = open_ones.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                deaf.setblocking(False)
                await self._loop.sock_connect(deaf, path)
                deaf.shutdown(socket.SHUT_RD)
            for _turn in range(ACCEPT_TURNS):
                await self.qmp.execute("query-status")
            await self.qmp.execute("cont")
            await self.qmp.execute("announce-self", initial=1, max=1, rounds=1, step=0)
            await self.qmp.execute("stop")

    async def rests(self, limit_s: float) -> bool:
        """Wait, bounded, until the input is consumed and the VM is idle (paper §5.1). True if it is."""
        end = self._loop.time() + limit_s
        while await self.monitor.wait(max(0.0, end - self._loop.time())):
            if not self.network.unread:
                return not self.network.has_backlog
            await asyncio.sleep(UNREAD_LOOK_S)
        return False

    async def drain(self, limit_s: float) -> None:
        """The same, but returns at once if the VM was idle and has got no input since."""
        if limit_s > 0 and not self.monitor.undisturbed:
            await self.rests(limit_s)

    # ---- the ordinary VM ----------------------------------------------------------------------------------
    async def stop(self) -> None:
        last = LastOutput(self.network.taken_bytes)
        await self.qmp.execute("stop")
        await self._take_last_output(last)

    async def cont(self) -> None:
        if self.network.broken:  # the core lets a VM go on like this only if it is the only copy
            await self._step_in()
            self.network.close()
            self.network = VmNetworks(len(self._net_paths), self._on_output, self._network_broke, self.network)
            await self.network.connect(self._net_paths)
            self.monitor.close()
            self._monitor = IdleMonitor(self.pid, self.network.fileno())
        await self.qmp.execute("cont")

    async def press_power(self) -> None:
        await self.qmp.execute("system_powerdown")

    async def is_off(self) -> bool:
        """The guest has powered itself off: QEMU keeps the VM, stopped (its option -no-shutdown)."""
        return bool((await self.qmp.ask("query-status", status=str))["status"] == "shutdown")

    async def save_device(self) -> bytes:
        return await _opened(self._saver, "its monitor").save_device()

    async def capture_stream(self) -> bytes:
        return await _opened(self._saver, "its monitor").capture_stream()

    async def _end_migration(self) -> None:
        """End a migration of the daemon before this one: when it ended later, it would stop the VM again."""
        for _try in range(200):
            stands = (await self.qmp.ask("query-status", status=str))["status"]
            status = (await self.qmp.ask("query-migrate")).get("status")
            if stands != "finish-migrate" and (stands == "running" or status not in OUTGOING):
                return
            await self.qmp.execute("migrate_cancel")
            await asyncio.sleep(0.005)
        raise QemuError("a capture of the VM's devices, begun by the daemon before this one, does not end")

    # ---- the COLO loop --------------------------------------------------------------------------------------
    def _check_dialect(self, version: str) -> None:
        """From the return path's dialect on, TCG keeps translated code over a load: the VM would run code that is not in its memory
        any more. (Up to then each load of a CPU's state flushed it.)"""
        if self._dialect.resets and self.config.guest_accel == "tcg":
            raise QemuError(
                f"guest_accel: QEMU {version} cannot hold the second copy of a VM with tcg: after a syncvm it would go on with old "
                "translated code; use kvm, or a QEMU up to 10"
            )

    async def feed_stream(self, stream: bytes) -> None:
        peer = self._colo = await ColoPeer.over(_opened(self._colo_socket, "its migration socket"), self._dialect)
        self._colo_socket = None
        await peer.feed(stream)

    async def colo_stop(self) -> None:
        last = LastOutput(self.network.taken_bytes)
        await _opened(self._colo, "the COLO loop").stop()
        await self._take_last_output(last)

    async def reset(self) -> None:
        """Reset all devices: of the leader's VM, as its reset button does; of the stopped VM, before a load.

        A device state leaves out fields that are as after a reset (vmstate subsections, e.g. "virtio/disabled"). Without a
        reset, changes that this VM made on its own since the last load would stay: a card disabled while its guest booted
        was dead after a failover. With it, the load goes into fresh devices, as in a migration. The reset does not change
        guest RAM, see qemu/kernel_image.py.
        """
        # A reset by the guest just before its stop also sends RESET. Were it taken for ours, ours would undo the load.
        await self.qmp.execute_and_wait("system_reset", "RESET", reason="host-qmp-system-reset")

    async def colo_load(self, state: bytes, runs: bool = True, reset: bool = True) -> None:
        """Load a device state into the stopped VM; it runs on from there if ``runs``."""
        if reset and not self._dialect.resets:
            await self.reset()
        self.monitor.disturb()
        await _opened(self._colo, "the COLO loop").load(state)
        if not runs:
            await self.stop()

    async def promote(self, view: int = 0) -> None:
        """Leave the COLO loop: the VM runs on as an ordinary one, and its overlays are merged into its images.

        May be called again after an error; each step is done once.
        """
        if self.config.disks:
            await self.block.end_export()
            await asyncio.to_thread(self.images.promoted, view)
            self.replicated_saved = asyncio.ensure_future(asyncio.to_thread(self.images.save_replicated, view))
        if await self._in_colo():
            # QEMU answers first; then it stops the VM, leaves the loop and starts the VM again. A "running" asked too early
            # would be about the time before. The RESUME of that start ends it; that of an earlier load has come by now.
            await self.qmp.execute_and_wait("x-colo-lost-heartbeat", "RESUME")
        elif not (await self.qmp.ask("query-status", running=bool))["running"]:
            await self.cont()  # an earlier call made it leave the loop
        if self._colo:
            self._colo.close()
            self._colo = None

    async def announce(self) -> None:
        """Have the guest tell its neighbours all addresses that it has, IPv6 and VLANs included, if its card can ask it to."""
        await self.qmp.execute("announce-self", **ANNOUNCE)

    async def _in_colo(self) -> bool:
        status = await self.qmp.ask("query-colo-status", mode=str)
        return bool(status["mode"] == "secondary")


def _opened(part: Part | None, name: str) -> Part:
    if part is None:
        raise QemuError(f"QEMU is not running, or not yet: {name} is not open")
    return part


def running_qemu(config: Config) -> int:
    """Pid of the running QEMU of this VM; 0 if there is none."""
    try:
        return peer_pid(qmp_socket(config))
    except OSError:
        return 0


async def _end(pid: int) -> None:
    """SIGKILL by pidfd, so that a reused pid is never hit; returns once the process is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, gone.set)
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        await asyncio.wait_for(gone.wait(), KILL_TIMEOUT_S)
    except ProcessLookupError:
        return
    except asyncio.TimeoutError:
        raise QemuError(f"QEMU (pid {pid}) does not end {KILL_TIMEOUT_S} s after SIGKILL; its host is in trouble") from None
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
