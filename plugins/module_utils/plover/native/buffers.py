# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of Python buffers for the native library. Sizes and types are checked here, before it sees a pointer."""

from __future__ import annotations

import ctypes as c
import os
from array import array
from mmap import mmap
from typing import TYPE_CHECKING, Union

from ..errors import PloverError

if TYPE_CHECKING:
    Buffer = Union[bytes, bytearray, memoryview, mmap, array[int]]  # noqa: UP007 (ansible-test takes the bars for an operator)


PAGE_BYTES = 4096  # PLOVER_PAGE. Not protocol.pages.PAGE_BYTES, which the simulator makes smaller
BLOCK_BYTES = 64


class NativeError(PloverError):
    """The native library is missing, of another version, or refused its input."""


def address_of(buffer: Buffer, writable: bool) -> int:
    """Address of a buffer's first byte; the caller keeps the buffer alive."""
    if isinstance(buffer, bytes):
        return c.cast(c.c_char_p(buffer), c.c_void_p).value or 0
    if isinstance(buffer, array):
        return buffer.buffer_info()[0]
    view = memoryview(buffer)
    if not view.nbytes:
        return 0
    if view.readonly:  # pylint: disable=using-constant-test  # it takes the attribute for a constant
        if writable:
            raise NativeError("a read-only buffer cannot be written")
        return _readonly_address(view)
    return c.addressof(c.c_char.from_buffer(view))


def bytes_of(buffer: Buffer) -> int:
    return memoryview(buffer).nbytes


def array_address(numbers: object, kind: str) -> int:
    """Address of an array of ``kind``: "I" page numbers, "Q" hashes of pages, "H" hashes of blocks.

    With items of another width, the library would read beyond the array's end.
    """
    if not isinstance(numbers, array) or numbers.typecode != kind:
        raise NativeError(f"{numbers!r:.60} is no array of type {kind!r}")
    return numbers.buffer_info()[0]


def checked(result: int, what: str) -> int:
    if result < 0:
        raise NativeError(f"{what}: {os.strerror(-result)}")
    return result


class _PyBuffer(c.Structure):
    _fields_ = [
        ("buf", c.c_void_p),
        ("obj", c.py_object),
        ("len", c.c_ssize_t),
        ("itemsize", c.c_ssize_t),
        ("readonly", c.c_int),
        ("ndim", c.c_int),
        ("format", c.c_char_p),
        ("shape", c.c_void_p),
        ("strides", c.c_void_p),
        ("suboffsets", c.c_void_p),
        ("internal", c.c_void_p),
    ]


def _readonly_address(view: memoryview) -> int:
    """Address of a read-only view, without a copy (ctypes itself accepts only writable ones)."""
    raw = _PyBuffer()
    c.pythonapi.PyObject_GetBuffer(c.py_object(view), c.byref(raw), 0)
    found: int = raw.buf
    c.pythonapi.PyBuffer_Release(c.byref(raw))
    return found
