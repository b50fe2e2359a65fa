# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to the RDMA library (native/include/plover_rdma.h): cards, registered memory, connections, rings.

The maker of an object closes it. Order: first connections, then regions, then the card.
"""

from __future__ import annotations

import ctypes as c
import mmap
import os
from array import array
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..errors import RdmaError
from ..native.library import DEFAULT_DIR

ABI = 1
REMOTE_WRITE, REMOTE_READ, ON_DEMAND = 1, 2, 4
ERROR_BYTES = 400


class _Range(c.Structure):
    _fields_ = [("offset", c.c_uint64), ("length", c.c_uint64)]


class _Memory(c.Structure):
    _fields_ = [("address", c.c_uint64), ("length", c.c_uint64), ("lkey", c.c_uint32), ("rkey", c.c_uint32)]


class _Address(c.Structure):
    _fields_ = [("qpn", c.c_uint32), ("psn", c.c_uint32), ("lid", c.c_uint32), ("mtu", c.c_uint32), ("gid", c.c_uint8 * 16)]


class _Patience(c.Structure):
    _fields_ = [("timeout", c.c_uint32), ("retry", c.c_uint32), ("hop_limit", c.c_uint32), ("traffic_class", c.c_uint32)]


class _Completion(c.Structure):
    _fields_ = [("number", c.c_uint64), ("status", c.c_uint32), ("vendor", c.c_uint32)]


class _Segment(c.Structure):
    _fields_ = [("address", c.c_uint64), ("length", c.c_uint32), ("lkey", c.c_uint32)]


class Completion(NamedTuple):
    number: int
    status: int  # 0: success


class Patience(NamedTuple):
    """How long a connection waits: 4.096 µs * 2^timeout for an answer, then it sends again, ``retry`` times."""

    timeout: int
    retry: int
    hop_limit: int = 64
    traffic_class: int = 0


@cache
def _library() -> c.CDLL:
    path = Path(os.environ.get("PLOVER_NATIVE_DIR", DEFAULT_DIR)) / "libplover_rdma.so"
    try:
        lib = c.CDLL(str(path))
    except OSError as error:
        raise RdmaError(f"{path}: {error}; role 'native' installs it for transport: rdma, or set transport: tcp") from error
    if lib.plover_rdma_abi_version() != ABI:
        raise RdmaError(f"{path}: ABI {lib.plover_rdma_abi_version()}, this runtime needs {ABI}; deploy both together")
    void, size, u64, u32, text = c.c_void_p, c.c_size_t, c.c_uint64, c.c_uint32, c.c_char_p
    for name, result, arguments in (
        ("ring_next", c.c_int, [void, size, u64, c.POINTER(u64), c.POINTER(_Range)]),
        ("ring_wait", c.c_int, [void, size, u64, u64, c.c_int64, c.c_int64, c.c_int64, void]),
        ("card_open", c.c_int, [text, c.c_uint, c.c_uint, c.c_uint, c.POINTER(void), text, size]),
        ("card_close", None, [void]),
        ("card_on_demand", c.c_int, [void]),
        ("region_new", c.c_int, [void, void, size, c.c_int, c.POINTER(void), c.POINTER(_Memory), text, size]),
        ("region_free", None, [void]),
        ("qp_new", c.c_int, [void, c.c_uint, c.POINTER(void), c.POINTER(_Address), text, size]),
        ("qp_connect", c.c_int, [void, c.POINTER(_Address), c.c_int, c.POINTER(_Patience), text, size]),
        ("qp_revoke", c.c_int, [void]),
        ("qp_state", c.c_int, [void]),
        ("qp_free", None, [void]),
        ("qp_read", c.c_int, [void, c.POINTER(_Segment), u64, u32, u64]),
        ("qp_poll", c.c_int, [void, c.POINTER(_Completion), c.c_uint, c.c_int64]),
        ("qp_fd", c.c_int, [void]),
        ("qp_arm", c.c_int, [void]),
        ("status_name", text, [u32]),
        (
            "qp_pages",
            c.c_int,
            [void, c.POINTER(_Memory), c.POINTER(_Memory), u64, u64, c.POINTER(u64), c.POINTER(_Memory), void, size, u64],
        ),
        ("qp_frame", c.c_int, [void, c.POINTER(_Memory), c.POINTER(_Memory), u64, u64, c.POINTER(u64), text, size, u64]),
    ):
        function = getattr(lib, "plover_" + name)
        function.restype, function.argtypes = result, arguments
    return lib


def status_name(status: int) -> str:
    name: bytes = _library().plover_status_name(status)
    return name.decode()


def _made(rc: int, error: c.Array[c.c_char]) -> None:
    if rc < 0:
        raise RdmaError(error.value.decode(errors="replace") or os.strerror(-rc))


class Memory(NamedTuple):
    """Registered memory, as a peer needs it."""

    address: int
    length: int
    rkey: int


class Card:
    """A port of a device. ``mtu_max``: bytes, 0 for the port's own."""

    def __init__(self, device: str, port: int, gid_index: int, mtu_max: int = 0) -> None:
        self._lib, self._handle, error = _library(), c.c_void_p(), c.create_string_buffer(ERROR_BYTES)
        _made(self._lib.plover_card_open(device.encode(), port, gid_index, mtu_max, c.byref(self._handle), error, len(error)), error)
        self.device = device
        self.on_demand = bool(self._lib.plover_card_on_demand(self._handle))

    def region(self, buffer: mmap.mmap, access: int = 0) -> Region:
        return Region(self, buffer, access)

    def connection(self, depth: int) -> Connection:
        return Connection(self, depth)

    def close(self) -> None:
        self._lib.plover_card_close(self._handle)
        self._handle = c.c_void_p()


class Region:
    """``buffer``, registered: for our own requests, and for the peer's as far as ``access`` allows."""

    def __init__(self, card: Card, buffer: mmap.mmap, access: int) -> None:
        self._lib, self._handle, self.raw = card._lib, c.c_void_p(), _Memory()
        error = c.create_string_buffer(ERROR_BYTES)
        self._kept: c.c_char | None = c.c_char.from_buffer(buffer)  # it cannot be unmapped before we are closed
        _made(
            self._lib.plover_region_new(
                card._handle, c.addressof(self._kept), len(buffer), access, c.byref(self._handle), c.byref(self.raw), error, len(error)
            ),
            error,
        )

    @property
    def memory(self) -> Memory:
        return Memory(self.raw.address, self.raw.length, self.raw.rkey)

    def close(self) -> None:
        self._lib.plover_region_free(self._handle)
        self._handle, self._kept = c.c_void_p(), None


class Connection:
    """A reliable connection (RC queue pair) of up to ``depth`` requests under way."""

    def __init__(self, card: Card, depth: int) -> None:
        self._lib, self._handle, own = card._lib, c.c_void_p(), _Address()
        error = c.create_string_buffer(ERROR_BYTES)
        _made(self._lib.plover_qp_new(card._handle, depth, c.byref(self._handle), c.byref(own), error, len(error)), error)
        self.address = bytes(own)
        self._done = (_Completion * 64)()
        self.fd: int = self._lib.plover_qp_fd(self._handle)

    def connect(self, peer: bytes, access: int, patience: Patience) -> None:
        """``peer``: its ``address``. ``access``: what the peer may do here. Raises RdmaError."""
        if len(peer) != ADDRESS_BYTES:
            raise RdmaError(f"a connection's address of {len(peer)} bytes, {ADDRESS_BYTES} are expected")
        address, error = _Address.from_buffer_copy(peer), c.create_string_buffer(ERROR_BYTES)
        _made(self._lib.plover_qp_connect(self._handle, c.byref(address), access, c.byref(_Patience(*patience)), error, len(error)), error)
        self.arm()

    def revoke(self) -> None:
        """No write of the peer lands after this call. Raises RdmaError if the card refuses; the caller must then end."""
        rc = self._lib.plover_qp_revoke(self._handle)
        if rc:
            raise RdmaError(f"the card does not take back the permission to write: {os.strerror(-rc)}")

    @property
    def state(self) -> int:
        state: int = self._lib.plover_qp_state(self._handle)
        return state

    def pages(
        self, mine: Region, theirs: Memory, ring: int, tail: int, head: int, guest: Region, index: array[int], number: int
    ) -> int | None:
        """As :meth:`frame`, with pages of ``guest`` (array "I"), which the card itself reads."""
        own, to, at = self._rings(mine, theirs, head)
        rc = self._lib.plover_qp_pages(
            self._handle, c.byref(own), c.byref(to), ring, tail, c.byref(at), c.byref(guest.raw), index.buffer_info()[0], len(index), number
        )
        return self._head(rc, at, 4096 * len(index), theirs)

    def frame(self, mine: Region, theirs: Memory, ring: int, tail: int, head: int, data: bytes, number: int) -> int | None:
        """Write a frame at ``head`` of the peer's ring, which has been read up to ``tail``. Returns the new head; None: there is
        no room."""
        own, to, at = self._rings(mine, theirs, head)
        rc = self._lib.plover_qp_frame(self._handle, c.byref(own), c.byref(to), ring, tail, c.byref(at), data, len(data), number)
        return self._head(rc, at, len(data), theirs)

    @staticmethod
    def _rings(mine: Region, theirs: Memory, head: int) -> tuple[_Memory, _Memory, c.c_uint64]:
        if theirs.length > mine.raw.length:
            raise RdmaError(f"a ring of {theirs.length} bytes, our copy has {mine.raw.length}")
        return (
            _Memory(mine.raw.address, theirs.length, mine.raw.lkey, 0),
            _Memory(theirs.address, theirs.length, 0, theirs.rkey),
            c.c_uint64(head),
        )

    @staticmethod
    def _head(rc: int, at: c.c_uint64, length: int, theirs: Memory) -> int | None:
        if rc == -11:  # EAGAIN
            return None
        if rc < 0:
            raise RdmaError(f"a frame of {length} bytes for a ring of {theirs.length}: {os.strerror(-rc)}")
        return at.value

    def read(self, into: Region, offset: int, length: int, remote: int, rkey: int, number: int) -> bool:
        """Read ``length`` bytes from the peer. False: too many requests are under way."""
        segment = _Segment(into.raw.address + offset, length, into.raw.lkey)
        return self._posted(self._lib.plover_qp_read(self._handle, c.byref(segment), remote, rkey, number))

    @staticmethod
    def _posted(rc: int) -> bool:
        if rc and rc != -11:
            raise RdmaError(f"the card takes no request: {os.strerror(-rc)}")
        return not rc

    def poll(self, spin_ns: int = 0) -> list[Completion]:
        """Completions, oldest first, at most 64."""
        n = self._lib.plover_qp_poll(self._handle, self._done, len(self._done), spin_ns)
        if n < 0:
            raise RdmaError("the completion queue cannot be read")
        return [Completion(self._done[i].number, self._done[i].status) for i in range(n)]

    def arm(self) -> None:
        """``fd`` becomes readable with the next completion."""
        self._lib.plover_qp_arm(self._handle)

    def close(self) -> None:
        self._lib.plover_qp_free(self._handle)
        self._handle = c.c_void_p()


ADDRESS_BYTES = c.sizeof(_Address)


class RingReader:
    """Reads the ring that a peer writes into the first ``length`` bytes of ``buffer``."""

    def __init__(self, buffer: mmap.mmap, length: int, ring: int) -> None:
        self._lib, self._length, self._ring = _library(), length, ring
        self._view = memoryview(buffer)
        self._anchor = c.c_char.from_buffer(buffer)
        self._address, self._position, self._at = c.addressof(self._anchor), c.c_uint64(length), _Range()
        self.stop = c.c_uint32(0)
        self.raw = False  # the last frame was a raw one: pages that the peer's card gathered

    @property
    def position(self) -> int:
        return self._position.value

    def next(self) -> bytes | None:
        """The next frame's payload, once it is whole."""
        at = self._at
        kind = self._lib.plover_ring_next(self._address, self._length, self._ring, c.byref(self._position), c.byref(at))
        if kind not in (1, 2):
            return None
        self.raw = kind == 2
        return bytes(self._view[at.offset : at.offset + at.length])

    def wait(self, position: int, spin_ns: int, pause_ns: int, limit_ns: int) -> bool:
        """Blocks its thread until a frame begins at ``position``, or ``stop`` is set."""
        found: int = self._lib.plover_ring_wait(
            self._address, self._length, self._ring, position, spin_ns, pause_ns, limit_ns, c.byref(self.stop)
        )
        return found == 1
