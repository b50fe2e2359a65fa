# SPDX-License-Identifier: GPL-3.0-or-later
"""Dashboard and alert rules ask for metrics and labels that exist; docs/monitoring.md lists all of them."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from exporter_group import leader
from plover.exporter.metrics import HISTOGRAMS, ROWS
from test_seen import samples

from lab.paths import ROOT

pytestmark = pytest.mark.usefixtures("small_pages")
FILES = ROOT / "roles" / "monitoring" / "files"
DASHBOARD = json.loads((FILES / "plover-dashboard.json").read_text())
RULES = yaml.safe_load((FILES / "plover.rules.yml").read_text())["groups"][0]["rules"]
FILL = {"phase": "live", "percent": 40, "pages_sent": 9, "disk_bytes": 4, "disk_bytes_total": 10}
OF_PROMETHEUS = {"instance", "job", "le"}


def strings(value):
    """All strings below a JSON value."""
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(each)


EXPRESSIONS = [text for text in strings(DASHBOARD) if "plover_" in text] + [rule["expr"] for rule in RULES]


@pytest.fixture
def exist():
    """Name of each sample -> its labels."""
    return {key[0]: {label for label, _value in key[1:]} for key in samples(leader(fill=FILL))}


def test_each_metric_that_is_asked_for_exists(exist):
    asked = {name for text in EXPRESSIONS for name in re.findall(r"\bplover_\w+", text)}
    assert len(asked) > 20 and sorted(asked - exist.keys()) == []


def test_each_label_that_is_asked_for_is_one_of_its_metric(exist):
    wrong = [
        (name, label)
        for text in EXPRESSIONS
        for name, inside in re.findall(r"\b(plover_\w+)\{([^}]*)\}", text)
        for label in re.findall(r"(\w+)\s*[=!]~?\"", inside)
        if label not in exist[name] | OF_PROMETHEUS
    ]
    assert wrong == []


def test_legends_name_labels_that_the_expression_keeps():
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"^\w+ by \(([^)]*)\)", target["expr"])))) or {"vm", "instance"}
            asked = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            quantile = "histogram_quantile" in target["expr"]
            assert asked <= (kept | {"vm"} if quantile else kept), (panel["title"], asked, kept)


def test_panels_are_whole_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) and all(panel["title"] and panel["description"] for panel in panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _y in cells) < 24


def test_each_alert_says_what_to_do():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning", "info") and rule["annotations"].keys() == {"summary", "description"}


def test_the_document_lists_each_metric_and_each_alert():
    text = (ROOT / "docs" / "monitoring.md").read_text()
    named = set(re.findall(r"`(plover_\w+)", text))
    exported = {f"{row.name}_total" if row.kind.__name__.startswith("Counter") else row.name for row in ROWS}
    exported |= {name for name, _text, _key in HISTOGRAMS} | {"plover_member_info"}
    assert named == exported
    assert {rule["alert"] for rule in RULES} == set(re.findall(r"^\| `(Plover\w+)`", text, re.MULTILINE))
