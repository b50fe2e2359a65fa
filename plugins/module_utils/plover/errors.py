# SPDX-License-Identifier: GPL-3.0-or-later
"""Every exception Plover raises on purpose.

PloverError
 ├── ConfigError          a setting is wrong; the text names it and the remedy
 ├── WireError            another member sent bytes that are no valid message
 ├── DurableStateError    the state on disk cannot be trusted or written
 ├── InvariantViolation   an invariant of docs/ARCHITECTURE.md would be broken: stop, never go on
 ├── QemuError            QEMU refused, vanished or answered nonsense
 │    └── LostWritesError data that QEMU wrote to this host's images did not reach the disk
 ├── CompressionError     libzstd is missing, or cannot unpack some bytes
 ├── NativeError          the native library is missing, of another version, or refuses (native/buffers.py)
 ├── NetworkError         a TAP, bridge or script failed, or the host has no RDMA device
 ├── FencingError         the watchdog that the settings ask for does not work
 ├── ControlError         a daemon does not answer on its control socket, or answers nonsense
 │    └── ControlTimeoutError  it is silent
 └── RdmaError            the RDMA library or a card refuses
"""

from __future__ import annotations

LINE_MAX = 4096  # characters


def _printable(text: str) -> str:
    """An error quotes what others sent or wrote. It must not look like another line of the log, fill it, nor be obeyed by a terminal."""
    if len(text) > LINE_MAX:
        text = f"{text[:LINE_MAX]} ... ({len(text)} characters)"
    return text if text.isprintable() else "".join(each if each.isprintable() else " " if each.isspace() else "?" for each in text)


def plain(text: str) -> str:
    """Words of others, for one line: without characters that a terminal or a shell would obey."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def one_line(name: str) -> str:
    """A name that others chose, for an error of several lines: quoted if it could look like a line of its own."""
    return name if name.isprintable() else repr(name)


class PloverError(Exception):
    """Base of all errors raised on purpose."""

    def __str__(self) -> str:
        return _printable(super().__str__())


class ConfigError(PloverError):
    """One or more settings are wrong; a line for each."""

    def __str__(self) -> str:
        return "\n".join(_printable(line) for line in Exception.__str__(self).split("\n"))


class WireError(PloverError):
    """Another member sent bytes that are no valid message of this cluster."""


class DurableStateError(PloverError):
    """The durable state is damaged or cannot be written."""


class InvariantViolation(PloverError):
    """Going on would break an invariant."""


class QemuError(PloverError):
    """QEMU refused a command, vanished or answered nonsense."""


class LostWritesError(QemuError):
    """Data that QEMU wrote to an image is lost, whatever later writes and flushes report."""


class CompressionError(PloverError):
    """libzstd is missing, or the bytes are no frame of an allowed size."""


class NetworkError(PloverError):
    """The TAP, the bridge or a script failed, or RDMA devices cannot be used."""


class FencingError(PloverError):
    """The host's watchdog does not do what the settings ask for."""


class ControlError(PloverError):
    """A daemon does not answer on its control socket, or answers nonsense."""


class ControlTimeoutError(ControlError):
    """The daemon was silent for as long as the caller waits."""


class RdmaError(PloverError):
    """The RDMA library or a card refuses; the text names the setting and the remedy."""
