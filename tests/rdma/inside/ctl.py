# SPDX-License-Identifier: GPL-3.0-or-later
"""SOCKET REQUEST: what `ploverctl -o json` does, without its settings in /etc."""
import json
import sys
from pathlib import Path

from plover.ctl import ask

print(json.dumps(ask(Path(sys.argv[1]), json.loads(sys.argv[2]))))
