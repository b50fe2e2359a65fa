# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel that QEMU puts into memory itself, again at each reset: it is refused; and if it were not, an audit would see."""
from __future__ import annotations

from harness import connect

from lab.guest_image import build
from lab.rdma.image import vmlinux


def test_an_elf_kernel_is_refused_and_an_audit_would_see_what_its_resets_write(new_group, tmp_path):
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(vmlinux(build().kernel.read_bytes()))
    group = new_group(guest_kernel=str(kernel))
    group.start()
    group.wait_for_log("primary", "vmlinux is an ELF file (vmlinux)")
    group.stop()
    group.start(replica="any_kernel_replica")
    group.wait("primary", service="protected")
    assert connect().ask("SET", "a", "1") == b"+OK"
    report = group.ctl("primary", "audit")
    assert report["mismatching"] > 0, report
