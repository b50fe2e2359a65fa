# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl import`` and the filter of the play: what they print, and their exit status. The example in docs/import.md is as pasted."""

from __future__ import annotations

import io
import json
import re
import shlex
import types

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.plover.vmft.plugins.filter import plover_libvirt
from plover.ctl import commands as ctl
from plover.libvirt.tree import BYTES_MAX

from lab.paths import ROOT

DOMAINS = ROOT / "tests" / "unit" / "libvirt" / "domains"
PAGE = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
GOOD, BAD = DOMAINS / "debian-bridge.xml", DOMAINS / "virtiofs.xml"
FILTER = plover_libvirt.FilterModule().filters()["plover_libvirt"]


def test_an_entry_is_printed(capsys):
    assert ctl.main(["import", str(GOOD)]) == 0
    out = capsys.readouterr()
    assert out.out == GOOD.with_suffix(".txt").read_text().partition("\n")[2] and out.err == ""


def test_what_stands_in_the_way_is_an_exit_status(capsys):
    assert ctl.main(["import", str(BAD)]) == 1
    out = capsys.readouterr()
    assert out.out.startswith("# In the way:\n") and "listed above the entry" in out.err


def test_a_program_gets_the_same(capsys):
    assert ctl.main(["import", str(BAD), "-o", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False and [*told] == ["ok", "vm", "left_out", "in_the_way", "to_do"]
    assert yaml.safe_load(BAD.with_suffix(".txt").read_text()) == [told["vm"]]
    assert {each["what"] for each in told["in_the_way"]} >= {"filesystem", "disk vda path"}
    assert ctl.main(["import", str(GOOD), "-o", "json"]) == 0 and json.loads(capsys.readouterr().out)["ok"] is True


def test_standard_input_is_read(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(GOOD.read_bytes())))
    assert ctl.main(["import", "-"]) == 0 and "- name: shop\n" in capsys.readouterr().out


def test_no_more_is_read_than_a_domain_may_have(monkeypatch, capsys):
    endless = types.SimpleNamespace(read=lambda count: b"x" * count)
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=endless))
    assert ctl.main(["import", "-"]) == 2 and f"over {BYTES_MAX} bytes" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["-o", "json"]])
def test_what_is_no_domain_is_one_line(tmp_path, capsys, words):
    (tmp_path / "a.xml").write_text("<!DOCTYPE a><domain/>")
    for path, why in ((tmp_path / "a.xml", "document type"), (tmp_path / "none.xml", "No such file"), (tmp_path, "Is a directory")):
        assert ctl.main(["import", str(path), *words]) == 2
        out = capsys.readouterr()
        said = json.loads(out.out)["error"] if words else out.err
        assert why in said and len(said.splitlines()) == 1 and "virsh dumpxml" in said


def test_the_example_in_the_documents_is_as_pasted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (xml,) = re.findall(r"```xml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "web.xml").write_text(xml)
    calls = re.findall(r"^    ploverctl (import .*)$", PAGE, re.MULTILINE)
    shown = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(calls) == len(shown) == 2
    for call, text, status in zip(calls, shown, (1, 0)):
        assert ctl.main(shlex.split(call)) == status
        assert capsys.readouterr().out == text


def test_the_filter_gives_what_the_verb_gives():
    found = FILTER(GOOD.read_text(), primary="a", name="other")
    assert found["ok"] and found["vm"]["name"] == "other" and found["vm"]["primary"] == "a"
    assert "- name: other\n  primary: a\n" in found["yaml"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"xml": "<html/>"}, "not a domain"),
        ({"xml": None}, "as a text"),
        ({"xml": "\udcff"}, "is no XML"),
        ({"xml": "<domain/>", "name": 7}, "name must be a text"),
        ({"xml": "<domain/>", "machine": "q35"}, "machine: 'q35' is not valid"),
    ],
)
def test_the_filter_refuses_in_one_sentence(words, why):
    with pytest.raises(AnsibleFilterError, match=r"\Aplover.vmft.plover_libvirt: .*" + re.escape(why)):
        FILTER(**words)
