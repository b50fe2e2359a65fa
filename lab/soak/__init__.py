# SPDX-License-Identifier: GPL-3.0-or-later
"""Does anything grow? Clients, switchovers and failovers for as long as asked, while everything that a daemon takes is measured."""
