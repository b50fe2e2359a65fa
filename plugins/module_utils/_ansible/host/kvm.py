# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether /dev/kvm runs guests: runs a guest of ten bytes, as the device alone proves nothing. x86-64 only.

Linux Documentation/virt/kvm/api.rst; sizes and numbers are those of its 64-bit interface.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import signal
import struct

DEVICE = "/dev/kvm"
TIMEOUT_S = 3.0
API_VERSION = 12
GET_API_VERSION, CREATE_VM, GET_VCPU_MMAP_SIZE, CREATE_VCPU, RUN = 0xAE00, 0xAE01, 0xAE04, 0xAE41, 0xAE80
SET_USER_MEMORY_REGION, GET_SUPPORTED_CPUID = 0x4020AE46, 0xC008AE05
SET_CPUID2 = 0x4008AE90
SET_REGS, GET_SREGS, SET_SREGS = 0x4090AE82, 0x8138AE83, 0x4138AE84
EXIT_HLT, EXIT_REASON_AT = 5, 8
CPUID_ENTRIES, CPUID_ENTRY_BYTES, SSE3 = 256, 40, 1
# Page tables that map the first 2 MiB to themselves, then the code: count ecx down to 0, halt.
PML4, PDPT, PD, CODE, MEMORY_BYTES = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
PROGRAM = bytes.fromhex("b9e8030000 ffc9 75fc f4")
GUEST = f"a guest of {len(PROGRAM)} bytes"
# Offsets in struct kvm_sregs, and the values of 64-bit mode.
SREGS_BYTES, SEGMENT_BYTES, SEGMENTS = 312, 24, 6
LONG_MODE = ((224, 0x80000011), (240, PML4), (248, 0x20), (264, 0x500))  # cr0, cr3, cr4, efer


def why_not(device=DEVICE):
    """Why KVM does not work here; empty if it does. The trial runs in a process of its own, as it may hang."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            text = _try(device)
        except OSError as error:
            text = f"{device}: {error.strerror}"
        except BaseException as error:  # the child must never go on as a second copy of its parent
            text = f"{device}: {error!r}"
        os.write(writer, text.encode()[:4000] or b"\0")
        os._exit(0)
    os.close(writer)
    try:
        ready, _writable, _failed = select.select([reader], [], [], TIMEOUT_S)
        text = os.read(reader, 4096).decode() if ready else f"{GUEST} does not end in {TIMEOUT_S:.0f} s"
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return text.strip("\0") if text else "the trial guest ended without a word"


def _try(device):
    kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    if fcntl.ioctl(kvm, GET_API_VERSION, 0) != API_VERSION:
        return f"{device}: its interface is not version {API_VERSION}"
    table = bytearray(struct.pack("II", CPUID_ENTRIES, 0) + bytes(CPUID_ENTRY_BYTES * CPUID_ENTRIES))
    fcntl.ioctl(kvm, GET_SUPPORTED_CPUID, table)
    if not _offers_sse3(table):
        return "it offers guests no SSE3, so it is not the hardware's, and ordinary guests do not boot"
    return _run(kvm, table)


def _offers_sse3(table):
    """Every CPU with hardware virtualization has SSE3. A KVM that works without hardware offers less than the CPU has."""
    for n in range(struct.unpack_from("I", table)[0]):
        function, _index, _flags, _eax, _ebx, ecx, _edx = struct.unpack_from("7I", table, 8 + CPUID_ENTRY_BYTES * n)
        if function == 1:
            return bool(ecx & SSE3)
    return False


def _run(kvm, table):
    machine = fcntl.ioctl(kvm, CREATE_VM, 0)
    memory = mmap.mmap(-1, MEMORY_BYTES)
    for at, value in ((PML4, PDPT | 3), (PDPT, PD | 3), (PD, 0x83)):
        struct.pack_into("Q", memory, at, value)
    memory[CODE : CODE + len(PROGRAM)] = PROGRAM
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(machine, SET_USER_MEMORY_REGION, struct.pack("IIQQQ", 0, 0, 0, MEMORY_BYTES, address))
    cpu = fcntl.ioctl(machine, CREATE_VCPU, 0)
    fcntl.ioctl(cpu, SET_CPUID2, table)  # of a CPU without it, newer kernels refuse the 64-bit mode
    state = mmap.mmap(cpu, fcntl.ioctl(kvm, GET_VCPU_MMAP_SIZE, 0))
    special = bytearray(SREGS_BYTES)
    fcntl.ioctl(cpu, GET_SREGS, special)
    for n in range(SEGMENTS):
        special[SEGMENT_BYTES * n : SEGMENT_BYTES * (n + 1)] = _segment(code=n == 0)
    for at, value in LONG_MODE:
        struct.pack_into("Q", special, at, value)
    fcntl.ioctl(cpu, SET_SREGS, bytes(special))
    fcntl.ioctl(cpu, SET_REGS, struct.pack("18Q", *[0] * 16, CODE, 2))
    fcntl.ioctl(cpu, RUN, 0)
    reason = struct.unpack_from("I", state, EXIT_REASON_AT)[0]
    return "" if reason == EXIT_HLT else f"{GUEST} ends with KVM_EXIT reason {reason}, not with a HLT"


def _segment(code):
    """struct kvm_segment: flat; 64-bit code, or data."""
    return struct.pack("QIH10B", 0, 0xFFFFFFFF, 8 if code else 16, 11 if code else 3, 1, 0, int(not code), 1, int(code), 1, 0, 0, 0)
