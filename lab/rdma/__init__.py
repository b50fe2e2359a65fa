# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with RDMA on a machine that has none: QEMU guests whose kernel's Soft-RoCE speaks real verbs over a bridge."""
