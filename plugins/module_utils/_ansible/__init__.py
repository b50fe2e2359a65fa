# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: what its modules, filters and action plugins share."""
