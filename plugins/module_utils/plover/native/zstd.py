# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to libzstd, by ctypes. dpkg, rpm and the distributions' QEMU need that library themselves, so every host has it,
whatever its Python version. Calls release the GIL.
"""

from __future__ import annotations

import ctypes as c
import ctypes.util
from functools import cache

from ..errors import CompressionError

_SIZE_UNKNOWN = (1 << 64) - 2  # ZSTD_CONTENTSIZE_ERROR; ZSTD_CONTENTSIZE_UNKNOWN is one more (zstd.h)


@cache
def _library() -> c.CDLL:
    name = ctypes.util.find_library("zstd") or "libzstd.so.1"
    try:
        lib = c.CDLL(name)
    except OSError as error:
        raise CompressionError(f"libzstd cannot be loaded ({error}); install it (Debian: libzstd1; RHEL: libzstd)") from error
    for function, result, arguments in (
        ("ZSTD_compressBound", c.c_size_t, [c.c_size_t]),
        ("ZSTD_compress", c.c_size_t, [c.c_void_p, c.c_size_t, c.c_char_p, c.c_size_t, c.c_int]),
        ("ZSTD_getFrameContentSize", c.c_ulonglong, [c.c_char_p, c.c_size_t]),
        ("ZSTD_findFrameCompressedSize", c.c_size_t, [c.c_char_p, c.c_size_t]),
        ("ZSTD_decompress", c.c_size_t, [c.c_void_p, c.c_size_t, c.c_char_p, c.c_size_t]),
        ("ZSTD_isError", c.c_uint, [c.c_size_t]),
        ("ZSTD_getErrorName", c.c_char_p, [c.c_size_t]),
    ):
        f = getattr(lib, function)
        f.restype, f.argtypes = result, arguments
    return lib


def _checked(lib: c.CDLL, result: int) -> int:
    if lib.ZSTD_isError(result):
        raise CompressionError(lib.ZSTD_getErrorName(result).decode())
    return result


def compress(data: bytes | bytearray, level: int = 1) -> bytes:
    """One frame, whose head tells the size of its content."""
    lib, data = _library(), bytes(data)  # no copy if it is bytes already
    out = bytearray(lib.ZSTD_compressBound(len(data)))
    size = _checked(lib, lib.ZSTD_compress((c.c_char * len(out)).from_buffer(out), len(out), data, len(data), level))
    return bytes(memoryview(out)[:size])


def decompress(frame: bytes | bytearray, size_max: int) -> bytes:
    """The content of ``frame``, which must be exactly one frame. Raises CompressionError if the content has more than
    ``size_max`` bytes, before it takes the memory.
    """
    lib, frame = _library(), bytes(frame)
    size = lib.ZSTD_getFrameContentSize(frame, len(frame))
    if size >= _SIZE_UNKNOWN:
        raise CompressionError("no frame that tells its size")
    if size > size_max:
        raise CompressionError(f"{size} bytes, of at most {size_max}")
    if _checked(lib, lib.ZSTD_findFrameCompressedSize(frame, len(frame))) != len(frame):
        raise CompressionError("more than a frame")
    out = bytearray(size)
    written = _checked(lib, lib.ZSTD_decompress((c.c_char * size).from_buffer(out), size, frame, len(frame)))
    if written != size:
        raise CompressionError(f"{written} bytes, of {size}")
    return bytes(out)
