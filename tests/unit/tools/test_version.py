# SPDX-License-Identifier: GPL-3.0-or-later
"""One version: what galaxy.yml says, the runtime says of itself, and the roles name their folder by."""

from __future__ import annotations

import re

import plover
import pytest
import yaml

from lab.paths import ROOT


def test_the_runtime_says_what_galaxy_says():
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == plover.__version__


@pytest.mark.parametrize("version", [plover.__version__, "0.2.0", "1.0.0-rc.1", "1.10.2"])
@pytest.mark.parametrize("role", ["runtime", "native"])
def test_the_roles_read_it_where_every_installation_has_it(role, version):
    """All of it: a release candidate and its release have folders of their own on a host."""
    value = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())[f"{role}_version"]
    path, pattern = re.search(r"/\.\./\.\./(plugins/\S+)'\).*regex_search\('([^']+)'", value).groups()
    text = (ROOT / path).read_text().replace(f'"{plover.__version__}"', f'"{version}"')
    assert re.findall(pattern, text) == [version]


def test_the_changelog_has_it():
    assert plover.__version__ in yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text())["releases"]


def test_what_an_execution_environment_reads_is_in_a_folder_that_an_installed_collection_keeps():
    named = yaml.safe_load((ROOT / "meta" / "execution-environment.yml").read_text())["dependencies"]
    assert set(named) == {"python", "system"}
    for path in named.values():
        assert path.startswith("meta/") and (ROOT / path).read_text().strip()
