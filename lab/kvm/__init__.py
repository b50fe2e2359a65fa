# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests under KVM, on a machine without it: QEMU's TCG emulates a CPU with SVM, so a Debian guest under TCG runs guests of its own
by KVM. It shows that they work; it says nothing about their speed."""
