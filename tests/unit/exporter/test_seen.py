# SPDX-License-Identifier: GPL-3.0-or-later
"""What a daemon says is looked at before it is shown: in the API, which the OpenAPI file describes, and as metrics."""

from __future__ import annotations

import copy
import json
import re

import jsonschema
import pytest
from exporter_group import leader, silent
from hypothesis import given
from hypothesis import strategies as st
from plover.exporter import metrics, seen
from plover.exporter.seen import Seen
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from lab.paths import ROOT

pytestmark = pytest.mark.usefixtures("small_pages")
OPENAPI = json.loads((ROOT / "plugins" / "module_utils" / "plover" / "exporter" / "openapi.json").read_text())
UNITS = ("seconds", "bytes", "pages", "ratio", "frames", "total", "info", "timestamp_seconds")
WITHOUT_UNIT = {"plover_up", "plover_service_state", "plover_role", "plover_view", "plover_member_in_sync", "plover_member_linked",
                "plover_fill_active", "plover_links_encrypted"}  # fmt: skip
KEYS = (
    "budget", "counters", "dropped", "fill", "filter", "held", "in_sync", "last_syncvm", "limits", "linked", "members", "overlays",
    "refused", "role", "sentence", "service", "since", "tls", "totals", "turned_away", "versions", "view", "views",
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def check(name: str, value) -> None:
    """``value`` is what the OpenAPI file says of schema ``name``."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": OPENAPI["components"]}
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(value, allow_nan=False)))


def samples(*found: Seen, accept: str = "") -> dict[tuple, float]:
    """(name, labels) -> value, as a scraper of that format reads it; the process's own left out."""
    content_type, text = metrics.text(list(found), accept)
    parser = openmetrics if accept else prometheus
    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain")
    out = {}
    for family in parser(text.decode()):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in out, f"{key} twice"
            out[key] = sample.value
    return {key: value for key, value in out.items() if key[0].startswith("plover_")}


def value(found, name, **labels):
    return found[(name, *sorted({"vm": "demo", **labels}.items()))]


def test_a_leader_as_the_api_shows_it():
    shown = seen.vm(leader(), 101.0)
    check("Vm", shown)
    assert (shown["service"], shown["exit_status"], shown["role"], shown["leader"], shown["view"]) == (
        "protected",
        0,
        "leader",
        "primary",
        1,
    )
    assert shown["in_sync"] == ["primary", "secondary"] and shown["linked"] == ["secondary", "witness"] and shown["encrypted"] is True
    assert shown["syncvm"]["count"] > 0 and shown["held"]["bytes"] == 0 and shown["fill"] is None and shown["age_s"] == 1.0


def test_a_daemon_that_does_not_answer_is_down_and_says_why():
    shown = seen.vm(silent(), 101.0)
    check("Vm", shown)
    assert (shown["answers"], shown["service"], shown["exit_status"]) == (False, "down", 2) and "does not answer" in shown["sentence"]


def test_a_fill_is_shown():
    fill = {"phase": "copy", "percent": 40, "pages_sent": 0, "disk_bytes": 4, "disk_bytes_total": 10}
    shown = seen.vm(leader(fill=fill, service="degraded"), 101.0)
    check("Vm", shown)
    assert shown["fill"]["percent"] == 40 and shown["exit_status"] == 1


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=6))
def test_nonsense_harms_neither_the_api_nor_the_metrics(wrong):
    found = leader(**wrong)
    check("Vm", seen.vm(found, 101.0))
    samples(found)
    samples(found, accept="application/openmetrics-text")


@given(ANYTHING)
def test_a_history_of_nonsense_is_left_out(wrong):
    assert isinstance(seen.entries({"entries": wrong}), list)
    for entry in seen.entries({"entries": [wrong, {"at": "x", "kind": "view", "why": "y", "other": 1}]}):
        json.dumps(entry, allow_nan=False)


def test_the_metrics_of_a_leader():
    found = samples(leader(), silent())
    assert value(found, "plover_up") == 1 and value(found, "plover_up", vm="other") == 0
    assert value(found, "plover_service_state", state="protected") == 1 and value(found, "plover_service_state", state="down") == 0
    assert value(found, "plover_role", role="leader") == 1 and value(found, "plover_role", role="witness") == 0
    assert value(found, "plover_view") == 1 and value(found, "plover_member_in_sync", member="secondary") == 1
    assert value(found, "plover_member_linked", member="witness") == 1
    assert ("plover_member_linked", ("member", "primary"), ("vm", "demo")) not in found
    assert value(found, "plover_views_total", cause="first boot") == 1 and value(found, "plover_views_total", cause="failover") == 0
    pauses = value(found, "plover_syncvm_pause_seconds_count")
    assert pauses == value(found, "plover_syncvms_total") > 0
    assert value(found, "plover_syncvm_pause_seconds_bucket", le="+Inf") == pauses
    assert (
        value(found, "plover_dropped_bytes_total", what="output") == 1500
        and value(found, "plover_dropped_frames_total", what="output") == 2
    )
    assert value(found, "plover_filtered_frames_total", reason="spoofed_arp") == 3
    assert value(found, "plover_overlay_used_bytes") == 1 << 20 and value(found, "plover_latency_target_seconds") > 0
    assert value(found, "plover_certificate_expiry_timestamp_seconds", member="primary") == 1_900_000_000
    assert value(found, "plover_links_refused_total", member="secondary") == 4 and value(found, "plover_links_encrypted") == 1
    assert {key[0] for key in found if ("vm", "other") in key} == {"plover_up", "plover_member_info"}


def test_both_formats_say_the_same():
    assert samples(leader()) == samples(leader(), accept="application/openmetrics-text; version=1.0.0")


def test_names_end_in_their_unit():
    names = {re.sub(r"_(bucket|count|sum)$", "", key[0]) for key in samples(leader())} - {"plover_member_info"}
    assert {name for name in names if not name.endswith(UNITS)} == WITHOUT_UNIT


def test_labels_are_few_whatever_a_daemon_says():
    many = {f"m{n}": {"not_after": n, "count": n} for n in range(10_000)}
    wrong = copy.deepcopy(leader().reply)
    wrong.update(refused=many, members=[f"m{n}" for n in range(10_000)], views=dict.fromkeys(map(str, range(10_000)), 1))
    wrong["tls"]["certificates"], wrong["filter"]["dropped"] = many, dict.fromkeys(many, 1)
    assert len(samples(Seen("demo", wrong, "", 0.0))) < 500
