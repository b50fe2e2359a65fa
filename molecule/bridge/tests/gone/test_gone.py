# SPDX-License-Identifier: GPL-3.0-or-later
"""After an uninstall: the network is as it was, and no file of the role is left."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "undone"))
from test_undone import *  # noqa: F403


def test_no_file_of_the_role_is_left(host):
    assert host.run("find / -xdev -name 'plover*' -not -path '/proc/*' -not -path '/sys/*'").stdout == ""
    assert host.run("systemctl list-unit-files 'plover*' --no-legend").stdout == ""
