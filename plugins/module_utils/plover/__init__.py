# SPDX-License-Identifier: GPL-3.0-or-later
"""The Plover runtime: a plain Python package, imported by daemons and Ansible modules alike."""

__version__ = "0.2.0"
