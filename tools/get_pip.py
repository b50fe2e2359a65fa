# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaces the get-pip.py that ansible-test would download: installs the wanted pip with Python's own."""

from __future__ import annotations

import subprocess
import sys

subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
# ansible-test calls get-pip.py with options and packages; of its own options pip itself knows all but these.
packages = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
