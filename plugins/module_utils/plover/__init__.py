# SPDX-License-Identifier: GPL-3.0-or-later
"""The Plover runtime: a plain Python package, imported by daemons and Ansible modules alike."""

__version__ = "1.0.0-rc.1"
