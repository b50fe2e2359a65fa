# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's watchdog: the only file that knows Linux' watchdog device (linux/watchdog.h, one ioctl each).

It is armed while this host's VM may speak, and fed by the progress of the daemon's main loop: a host that hangs is reset.
Opening the device arms it. Closing it disarms it only after 'V' was written (magic close): a daemon that dies leaves it
armed, and the next one takes it over or disarms it. It is disarmed only after QEMU is gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from ..errors import FencingError
from .console import complain

WDIOC_GETSUPPORT, WDIOC_KEEPALIVE, WDIOC_SETTIMEOUT = 0x80285700, 0x80045705, 0xC0045706
SETTIMEOUT, MAGICCLOSE = 0x0080, 0x0100  # bits of watchdog_info.options
SUPPORT = struct.Struct("II32s")  # watchdog_info: options, firmware version, identity
FEEDS_PER_TIMEOUT = 5
REMEDY = (
    "load a driver (hardware, or 'modprobe softdog'), or name another device in fence_watchdog_device, or set "
    "fence_watchdog to 'automatic' or 'off'"
)


class Watchdog:
    """One device. ``armed`` from :meth:`arm` to :meth:`disarm`; ``identity`` is the driver's name for it."""

    def __init__(self, path: str, timeout_s: int) -> None:
        self.path, self.timeout_s = path, timeout_s
        self.identity = ""
        self._fd = -1

    @property
    def armed(self) -> bool:
        return self._fd >= 0

    def probe(self) -> None:
        """Check that the device works and can be disarmed, by arming it for a moment. Raises FencingError."""
        self.arm()
        self.disarm()

    def arm(self) -> None:
        """Open it, set the time-out, feed it. Raises FencingError; then it is disarmed again if that is possible."""
        if self.armed:
            return
        self._refuse_what_cannot_be_disarmed()
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            used = "; another program (systemd's RuntimeWatchdogSec? a daemon of another VM?) has it open"
            raise self._error(error, used if error.errno == errno.EBUSY else "") from error
        try:
            options, _firmware, identity = SUPPORT.unpack(fcntl.ioctl(self._fd, WDIOC_GETSUPPORT, bytes(SUPPORT.size)))
            self.identity = identity.rstrip(b"\0").decode(errors="replace")
            if not options & MAGICCLOSE or not options & SETTIMEOUT:
                raise FencingError(
                    f"fence_watchdog_device: {self.path} ({self.identity}) cannot be disarmed or has a fixed time-out; {REMEDY}"
                )
            (got,) = struct.unpack("i", fcntl.ioctl(self._fd, WDIOC_SETTIMEOUT, struct.pack("i", self.timeout_s)))
            if got < self.timeout_s:
                raise FencingError(
                    f"fence_watchdog_timeout_s: {self.path} ({self.identity}) does {got} s at most, not {self.timeout_s}; shorten it"
                )
            self.feed()
        except OSError as error:
            self.disarm()
            raise self._error(error) from error
        except FencingError:
            self.disarm()
            raise

    def _refuse_what_cannot_be_disarmed(self) -> None:
        """Before it is opened: afterwards nothing could stop it."""
        try:
            status = os.stat(self.path)
            if not stat.S_ISCHR(status.st_mode):
                raise OSError(errno.ENOTTY, "is no device")
            number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            with open(f"/sys/dev/char/{number}/nowayout", encoding="ascii") as file:
                nowayout = file.read().strip()
        except FileNotFoundError as error:
            if not os.path.exists(self.path):
                raise self._error(error) from error
            return  # /dev/watchdog, the old name, has no such file
        except OSError as error:
            raise self._error(error) from error
        if nowayout == "1":
            raise FencingError(
                f"fence_watchdog_device: {self.path} is set to 'nowayout': it would reset this host after "
                f"the VM has left it; load its driver with nowayout=0, or {REMEDY}"
            )

    def _error(self, error: OSError, more: str = "") -> FencingError:
        return FencingError(f"fence_watchdog_device: {self.path}: {error.strerror}{more}; {REMEDY}")

    def feed(self) -> None:
        """Raises OSError if the device is gone."""
        fcntl.ioctl(self._fd, WDIOC_KEEPALIVE, 0)

    def disarm(self) -> None:
        """Magic close. Call it only when QEMU is gone."""
        if self.armed:
            fd, self._fd = self._fd, -1
            try:
                os.write(fd, b"V")
            except OSError:
                pass  # the device is gone, or was no watchdog
            finally:
                os.close(fd)

    def abandon(self) -> None:
        """Close it armed: unless another daemon takes it over within the time-out, the host is reset."""
        if self.armed:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Keeper:
    """The policy: ``off``, ``automatic`` (used if there is one), ``required`` (the VM speaks only while it is armed)."""

    def __init__(self, policy: str, device: Watchdog) -> None:
        self.policy, self.device = policy, device
        self.problem = ""
        self.starved = ""  # the reason why it is not fed any more
        self._fed_at = float("-inf")

    def check(self) -> None:
        """At the daemon's start. Raises FencingError if a watchdog is required and does not work."""
        if self.policy == "off":
            return
        try:
            self.device.probe()
        except FencingError as error:
            self._failed(error)

    def arm(self) -> None:
        """Before the VM may speak. Raises FencingError if a watchdog is required and does not work."""
        if self.policy == "off" or self.device.armed:
            return
        try:
            self.device.arm()
            self.problem = ""
        except FencingError as error:
            self._failed(error)

    def _failed(self, error: FencingError) -> None:
        self.problem = str(error)
        if self.policy == "required":
            raise error

    def progress(self, now: float) -> None:
        """The main loop has made a turn."""
        if self.device.armed and not self.starved and now - self._fed_at >= self.device.timeout_s / FEEDS_PER_TIMEOUT:
            self._fed_at = now
            try:
                self.device.feed()
            except OSError as error:
                self.device.abandon()
                self._failed(FencingError(f"fence_watchdog_device: {self.device.path}: {error.strerror} while it was fed"))

    def starve(self, why: str) -> None:
        """Stop feeding it, so that the host is reset: a QEMU does not end."""
        if self.device.armed:
            self.starved = why

    def qemu_gone(self) -> None:
        self.device.disarm()

    def abandon(self) -> None:
        """This daemon ends and leaves a running QEMU."""
        self.device.abandon()

    def describe(self) -> str:
        """For the status."""
        if self.policy == "off":
            return "off"
        if self.problem:
            return f"not in use: {self.problem}"
        what = f"{self.device.path} ({self.device.identity}), {self.device.timeout_s} s"
        if self.starved:
            return f"{what}, will reset this host: {self.starved}"
        return f"{what}, {'armed' if self.device.armed else 'not armed: the VM does not speak here'}"


def release(path: str) -> int:
    """After QEMU's end, without a daemon: open the device and disarm it. If it is in use, its user decides. Returns the exit
    status."""
    device = Watchdog(path, 60)
    try:
        device.probe()
    except FencingError as error:
        complain(error)
    return 0
