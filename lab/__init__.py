# SPDX-License-Identifier: GPL-3.0-or-later
"""Three real hosts on one machine, the guest image, the demo: what Plover is developed and tested on."""
