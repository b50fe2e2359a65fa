# SPDX-License-Identifier: GPL-3.0-or-later
"""What Python runs of plover-bridge, one file with the package bridging in it (tools/build_collection.py)."""

import sys

from bridging.script import main

sys.exit(main())
