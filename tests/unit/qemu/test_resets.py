# SPDX-License-Identifier: GPL-3.0-or-later
"""A reset in front of a load must leave guest memory alone: which kernels are refused, and what an audit sees."""
from __future__ import annotations

import pytest
from cluster import Cluster, settings
from plover.config.settings import Config
from plover.errors import QemuError
from plover.ports import effects as act
from plover.qemu import kernel_image
from plover.qemu import process as qemu

BZIMAGE = bytes(0x1FE) + b"\x55\xaa\xeb\x66HdrS\x0f\x02" + bytes(100)
ELF = b"\x7fELF\x02\x01\x01" + bytes(600)


# --- kernels ---

def test_a_bzimage_is_taken(tmp_path):
    (tmp_path / "vmlinuz").write_bytes(BZIMAGE)
    kernel_image.check(str(tmp_path / "vmlinuz"))


@pytest.mark.parametrize("image, what", [(ELF, "an ELF file"), (b"", "no bzImage"), (BZIMAGE[:0x205], "no bzImage"),
                                         (BZIMAGE[1:], "no bzImage"), (bytes(5000), "no bzImage")])
@pytest.mark.parametrize("incoming", [False, True])
def test_any_other_kernel_is_refused_on_both_replicas_before_anything_is_started(tmp_path, image, what, incoming):
    (tmp_path / "vmlinux").write_bytes(image)
    (tmp_path / "qemu").write_bytes(b"")
    config = Config(settings("primary", guest_kernel=str(tmp_path / "vmlinux"), qemu_binary=str(tmp_path / "qemu"),
                             run_dir=str(tmp_path / "run"), shm_dir=str(tmp_path / "shm")))
    with pytest.raises(QemuError, match=f"guest_kernel: .*vmlinux is {what}.* Give the compressed kernel"):
        qemu.prepare(config, incoming)
    assert not (tmp_path / "run").exists()


# --- audits ---

@pytest.mark.parametrize("rewrites, differ", [(False, 0), (True, 1)])
def test_an_audit_looks_after_the_reset_too(rewrites, differ):
    """Shown with two QEMUs and an ELF kernel: its data went back to boot content in each load, and audits said 0."""
    cluster = Cluster()
    cluster.run_until(cluster.protected)
    node, answers, steps = cluster["secondary"], [], []
    original = node.do

    def do(action):
        original(action)
        steps.append(type(action).__name__)
        if rewrites and (isinstance(action, act.ResetVm) or (isinstance(action, act.ColoLoad) and action.reset)):
            node.memory.guest_write(300, 4711)  # the kernel's data, as it was at boot

    node.do = do
    cluster.leader().core.at(cluster.now).audit(answers.append)
    cluster.leader().pump()
    cluster.run_until(lambda: answers)
    assert (answers[0].mismatching, answers[0].untracked) == (differ, 0)
    assert steps.index("ResetVm") < len(steps) - 1 - steps[::-1].index("Hash") < steps.index("ColoLoad")


def test_who_is_elected_in_an_audit_loads_what_was_reset_before_it_runs():
    cluster = Cluster()
    cluster.run_until(cluster.protected)
    node, held, done = cluster["secondary"], [], []
    original = node.do

    def do(action):
        original(action)
        done.append(type(action).__name__)
        if isinstance(action, act.ResetVm):
            held.append(node.answers.pop())

    node.do = do
    cluster.leader().core.at(cluster.now).audit(lambda result: None)
    cluster.leader().pump()
    cluster.run_until(lambda: held)
    cluster.kill("primary")
    cluster.run_until(lambda: node.core.leading is not None)
    cluster.run(0.05)
    assert "Promote" not in done
    node.answers.append(held[0])
    cluster.run_until(lambda: cluster.leader() is node and node.core.leading.serving)
    assert [step for step in done if step in ("ResetVm", "ColoLoad", "Promote")] == ["ResetVm", "ColoLoad", "Promote"]
