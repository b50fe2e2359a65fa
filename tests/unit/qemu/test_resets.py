# SPDX-License-Identifier: GPL-3.0-or-later
"""A reset in front of a load must leave guest memory alone: which kernels are refused, and what an audit sees."""

from __future__ import annotations

import pytest
from plover.config.settings import Config
from plover.errors import QemuError
from plover.ports import effects
from plover.qemu import kernel_image
from plover.qemu import process as qemu
from settings import settings

from tests.sim.rig import WRITE_PAGE, protected

pytestmark = pytest.mark.usefixtures("small_pages")

BZIMAGE = bytes(0x1FE) + b"\x55\xaa\xeb\x66HdrS\x0f\x02" + bytes(100)
ELF = b"\x7fELF\x02\x01\x01" + bytes(600)


# --- kernels ---


def test_a_bzimage_is_taken(tmp_path):
    (tmp_path / "vmlinuz").write_bytes(BZIMAGE)
    kernel_image.check(str(tmp_path / "vmlinuz"))


@pytest.mark.parametrize(
    "image, what",
    [(ELF, "an ELF file"), (b"", "no bzImage"), (BZIMAGE[:0x205], "no bzImage"), (BZIMAGE[1:], "no bzImage"), (bytes(5000), "no bzImage")],
)
@pytest.mark.parametrize("incoming", [False, True])
def test_any_other_kernel_is_refused_on_both_replicas_before_anything_is_started(tmp_path, image, what, incoming):
    (tmp_path / "vmlinux").write_bytes(image)
    (tmp_path / "qemu").write_bytes(b"")
    config = Config(
        settings(
            "primary",
            guest_kernel=str(tmp_path / "vmlinux"),
            qemu_binary=str(tmp_path / "qemu"),
            run_dir=str(tmp_path / "run"),
            shm_dir=str(tmp_path / "shm"),
        )
    )
    with pytest.raises(QemuError, match=f"guest_kernel: .*vmlinux is {what}.* Give the compressed kernel"):
        qemu.prepare(config, incoming)
    assert not (tmp_path / "run").exists()


# --- audits ---


@pytest.mark.parametrize("rewrites, differ", [(False, 0), (True, 1)])
def test_an_audit_looks_after_the_reset_too(rewrites, differ):
    """Shown with two QEMUs and an ELF kernel: its data went back to boot content in each load, and audits said 0."""
    group = protected()
    group.on_purpose = "device state of frame 0 loaded over memory of frame 0"
    secondary = group["secondary"]

    def reset(tag):
        if rewrites:
            secondary.guest_writes(WRITE_PAGE, 4711)  # the kernel's data, as it was at boot
        return [tag]

    secondary.tells["vm_reset"] = reset
    secondary.done.clear()
    answers = group["primary"].audit()
    group.until(lambda: answers)
    steps = secondary.done
    assert bool(group.violations) == rewrites
    assert (answers[0].mismatching, answers[0].untracked) == (differ, 0)
    assert steps.index("ResetVm") < len(steps) - 1 - steps[::-1].index("Hash") < steps.index("ColoLoad")


def test_who_is_elected_in_an_audit_loads_what_was_reset_before_it_runs():
    group = protected()
    secondary = group["secondary"]
    held = secondary.hold(effects.ResetVm)
    group.serving().audit()
    group.until(lambda: held)
    group.kill("primary")
    group.until(lambda: secondary.core.leading is not None)
    group.run(0.05)
    assert "Promote" not in secondary.done
    secondary.let_go(effects.ResetVm)
    group.until(lambda: group.serving() is secondary and secondary.core.leading.serving)
    assert [step for step in secondary.done if step in ("ResetVm", "ColoLoad", "Promote")] == ["ResetVm", "ColoLoad", "Promote"]
