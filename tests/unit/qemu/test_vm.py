# SPDX-License-Identifier: GPL-3.0-or-later
"""The real Vm against a QEMU that has more to send than its socket takes, resets on its own, or was left half done."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest
from fake_qemu import FakeQemu
from plover.config.settings import Config
from plover.errors import QemuError
from plover.protocol.frames import split, wrap
from plover.qemu import saving, vm
from plover.qemu.colo import ColoPeer
from plover.qemu.vm import Vm
from settings import settings

from lab.paths import ROOT

FRAME = bytes(range(250)) * 6


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(ROOT / "native" / "build"))
    subprocess.run(["make", "-s", "-C", str(ROOT / "native")], check=True)
    (tmp_path / "demo").mkdir()
    with FakeQemu(tmp_path / "demo") as out:
        yield out


def with_vm(fake, work, adopt=False):
    """``await work(vm)``; returns (its result, what came out of the VM, why it was said to be broken)."""
    folder = os.path.dirname(os.path.dirname(fake.qmp_path))
    config = Config(settings("primary", run_dir=folder, qemu_supervisor="child"))
    taken, broken, unexpected = [], [], []

    async def run():
        # What ends a daemon.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unexpected.append(context))
        machine = Vm(config, taken.append, lambda why: None, broken.append)
        try:
            if adopt:
                await machine.adopt()
            else:
                await machine._open()
                await machine._attach()
            return await asyncio.wait_for(work(machine), 20)
        finally:
            machine._detach()
            await machine.qmp.close()

    result = asyncio.run(run())
    assert not unexpected
    return result, b"".join(taken), broken


# --- a stop that is not over ---


@pytest.mark.parametrize("queued_bytes", [0, 500_000, 2_200_000])
def test_a_stop_is_over_when_qemu_has_nothing_left_to_send(fake, queued_bytes):
    """Seen: 99 of 100 stops with 2.2 MB queued went on writing used rings while memory was fetched, 6 of 100 with 0.5 MB."""
    count = queued_bytes // len(FRAME)

    async def work(machine):
        for _time in range(20):
            fake.do(lambda: fake.transmit(*[FRAME] * count))
            await asyncio.sleep(0)  # the event loop's reader may come first, and empty the full socket
            await asyncio.sleep(0)
            await machine.stop()
            used = fake.used
            await asyncio.sleep(0.02)  # memory is fetched and copied, the device state saved
            assert fake.used == used, "QEMU went on sending after the stop"
            assert not fake.waiting
            await machine.cont()

    _, taken, broken = with_vm(fake, work)
    assert taken == wrap(FRAME) * (20 * count) and not broken


def test_a_stop_that_never_ends_is_given_up(fake, monkeypatch):
    monkeypatch.setattr(vm, "LAST_OUTPUT_S", 0.2)

    class Endless(type(fake.waiting)):
        def popleft(self):
            self.append(super().popleft())

    async def work(machine):
        fake.do(lambda: (setattr(fake, "waiting", Endless()), fake.transmit(FRAME)))
        with pytest.raises(QemuError, match="still sends 0.2 s after its VM was stopped"):
            await machine.stop()
        fake.do(lambda: fake.waiting.clear())  # or it would go on when its reader is gone, for ever

    with_vm(fake, work)


# --- a network socket out of step ---


def test_a_frame_that_qemu_threw_away_in_the_middle_is_an_error_of_the_stop(fake):
    async def work(machine):
        fake.do(lambda: (fake.send_part(FRAME, 700), fake.purge()))
        with pytest.raises(QemuError, match="700 bytes of a frame .* out of step"):
            await machine.stop()

    with_vm(fake, work)


@pytest.mark.parametrize("nonsense, why", [(b"\xff" * 10, "frame of 4294967295 bytes"), (None, "closed its network socket")])
def test_a_broken_network_is_told_and_nothing_is_believed_any_more(fake, nonsense, why):
    """Before, the error ended the daemon, or its VM was cut off in silence."""

    async def work(machine):
        fake.do(lambda: fake._net.send(nonsense) if nonsense else fake._disconnect())
        await asyncio.sleep(0.05)
        machine.inject(wrap(FRAME))
        assert machine.network.dropped_bytes == len(wrap(FRAME))
        with pytest.raises(QemuError, match=why):
            await machine.stop()
        await asyncio.sleep(vm.EXIT_GRACE_S)

    _, taken, broken = with_vm(fake, work)
    assert len(broken) == 1 and why in broken[0] and not taken


def test_the_only_copy_goes_on_with_a_network_in_step(fake):
    async def work(machine):
        fake.do(lambda: (fake.send_part(FRAME, 700), fake.purge()))
        with pytest.raises(QemuError):
            await machine.stop()
        await machine.cont()
        await asyncio.sleep(vm.EXIT_GRACE_S + 0.05)
        fake.do(lambda: fake.transmit(b"whole", b"frames"))
        await asyncio.sleep(0.05)
        machine.inject(wrap(b"in"))
        await asyncio.sleep(0.05)

    _, taken, broken = with_vm(fake, work)
    assert [bytes(frame) for frame in split(taken)] == [b"whole", b"frames"] and not broken
    assert fake.received == wrap(b"in") and fake.state == "running"


# --- what a daemon left half done ---


@pytest.mark.parametrize("state", ["running", "paused", "postmigrate", "finish-migrate"])
def test_an_adopted_vm_stands_still_until_it_is_let_go_on(fake, state):
    """Killed between stop and cont, and elected again: its VM stayed paused."""
    fake.state = state

    async def work(machine):
        assert fake.state in ("paused", "postmigrate")
        await machine.cont()
        assert fake.state == "running"

    with_vm(fake, work, adopt=True)


def test_who_adopts_a_vm_gets_whole_frames_though_half_a_one_was_sent_to_the_daemon_before(fake):
    async def die(machine):
        fake.do(lambda: fake.send_part(FRAME, 700))

    with_vm(fake, die)

    async def work(machine):
        await machine.cont()
        fake.do(lambda: fake.transmit(b"whole", b"frames"))
        await asyncio.sleep(0.05)

    _, taken, broken = with_vm(fake, work, adopt=True)
    assert [bytes(frame) for frame in split(taken)] == [b"whole", b"frames"] and not broken


def test_the_migration_of_a_daemon_that_died_is_ended(fake):
    fake.state, fake.migration = "paused", "active"

    async def work(machine):
        assert "migrate_cancel" in fake.commands

    with_vm(fake, work, adopt=True)


def test_a_capture_that_fails_is_noticed_at_once(fake):
    """The VM stood still for all of CAPTURE_TIMEOUT_S, 15 s."""

    async def work(machine):
        with pytest.raises(QemuError, match="QEMU's migrate: failed"):
            await asyncio.wait_for(machine.capture_stream(), saving.CAPTURE_TIMEOUT_S / 2)

    with_vm(fake, work)


# --- resets and resumes that are not ours ---


def test_a_reset_of_the_guest_is_not_taken_for_ours(fake):
    """A load before our reset is undone by it."""
    fake.before["system_reset"] = [("RESET", {"guest": True, "reason": "guest-reset"})]

    class Peer(ColoPeer):
        def __init__(self): ...

        async def load(self, state):
            fake.do(lambda: fake.commands.append("(load)"))

        def close(self): ...

    async def work(machine):
        machine._colo = Peer()
        await machine.colo_load(b"state")

    with_vm(fake, work)
    assert fake.commands[-3:] == ["system_reset", "(reset)", "(load)"]


# --- a QEMU that is not open ---


@pytest.mark.parametrize(
    "ask", [Vm.stop, Vm.reset, lambda machine: machine.block.cut(), lambda machine: machine.colo_load(b"state", reset=False)]
)
def test_a_qemu_that_is_not_open_is_an_error_of_an_operation_not_the_daemons_end(tmp_path, ask):
    async def run():
        machine = Vm(Config(settings("primary", run_dir=str(tmp_path), qemu_supervisor="child")), bytes, str, str)
        with pytest.raises(QemuError, match="is not open"):
            await ask(machine)

    asyncio.run(run())
