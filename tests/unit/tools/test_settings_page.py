# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/settings.md is drawn from the table of settings, and lists each of them once."""

from __future__ import annotations

import re
import sys

import pytest
import yaml
from plover.config.settings import SETTINGS

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import draw_settings


def test_the_page_is_up_to_date():
    text = draw_settings.DOCUMENT.read_text(encoding="utf-8")
    assert draw_settings.updated(text) == text, "run: python3 tools/draw_settings.py"


def test_each_setting_has_one_row():
    rows = re.findall(r"^\| `(\w+)` \|", draw_settings.drawing(), re.MULTILINE)
    assert sorted(rows) == sorted(SETTINGS)


def test_a_setting_without_a_section_is_noticed():
    with pytest.raises(ValueError, match="SECTIONS"):
        draw_settings.section("moon_phase")


@pytest.mark.parametrize(
    ("key", "unit"),
    [("disk_copy_mib_per_s", "MiB/s"), ("guard_bytes_max", "bytes"), ("latency_ms_target", "ms"), ("scrub_interval_s", "s"), ("port", "")],
)
def test_the_unit_is_that_of_the_name(key, unit):
    assert draw_settings.unit(key) == unit


def test_each_row_has_the_columns_of_the_head():
    for line in draw_settings.table("The host").splitlines():
        assert line.count("|") - line.count("\\|") == 7


def test_the_defaults_of_the_play_are_those_of_the_roles():
    default = yaml.safe_load((ROOT / "roles" / "disks" / "defaults" / "main.yml").read_text())["disks_overlay_dir"]
    assert "`/run/plover-disks`" in draw_settings.PLAY_DEFAULTS["disk_overlay_dir"] and "'/run/plover-disks'" in default
    specs = yaml.safe_load((ROOT / "roles" / "prechecks" / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    assert specs["main"]["options"]["plover_vms"]["options"]["link_security"]["default"] == "tls"
    assert "`tls`" in draw_settings.PLAY_DEFAULTS["link_security"]
