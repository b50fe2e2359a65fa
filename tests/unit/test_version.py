# SPDX-License-Identifier: GPL-3.0-or-later
"""One version: what galaxy.yml says, the runtime says of itself, and the roles name their folder by."""
from __future__ import annotations

import re

import plover
import yaml

from lab.paths import ROOT


def test_the_runtime_says_what_galaxy_says():
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == plover.__version__


def test_the_roles_read_it_where_every_installation_has_it():
    for role in ("runtime", "native"):
        value = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())[f"{role}_version"]
        path, pattern = re.search(r"/\.\./\.\./(plugins/\S+)'\).*regex_search\('([^']+)'", value).groups()
        assert re.findall(pattern, (ROOT / path).read_text()) == [plover.__version__]
