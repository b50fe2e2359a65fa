# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorder of terminal sessions, with a real shell; and what the documents' own recording holds."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET

import pytest

from lab.paths import ROOT
from lab.session import COLUMNS, PROMPT, Recorder, asciicast, picture, printed

DOCS = ROOT / "docs"
BYTES_MAX = 60_000
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    with Recorder("hello() { echo hello $1; }", tmp_path_factory.mktemp("shell"), ENVIRONMENT) as shell:
        said = [
            shell.run("hello world"),
            shell.run("sh -c 'echo tick; exec sleep 60'", until="tick"),
            shell.run("printf '1\\r23\\n'"),
        ]
    return said, shell.events


def test_a_command_is_typed_and_runs_to_the_next_prompt(session):
    said, _events = session
    assert said[0] == f"\r\nhello world\r\n{PROMPT}" and "tick" in said[1] and "^C" in said[1]


def test_the_cast_has_all_that_was_printed_in_its_order(session):
    _said, events = session
    head, *rest = map(json.loads, asciicast(events, "a title", 1.5).splitlines())
    assert (head["version"], head["width"], head["title"], head["timestamp"]) == (2, COLUMNS, "a title", 1)
    times = [at for at, _kind, _text in rest]
    assert times == sorted(times) and {kind for _at, kind, _text in rest} == {"o"}
    assert "".join(text for _at, _kind, text in rest).startswith("$ hello world\r\nhello world\r\n$ ")


def test_lines_are_as_they_stood_in_the_end(session):
    text = printed(session[1])
    assert text.startswith("$ hello world\nhello world\n$ sh -c") and "\n23\n" in text and "\r" not in text


def test_the_picture_loads_nothing(session):
    svg = picture(printed(session[1]), "a <title>")
    ET.fromstring(svg)
    assert re.findall(r"https?://[^\s\"'<]+", svg.replace("http://www.w3.org/2000/svg", "")) in ([], ["https://www.textualize.io"])
    assert "@font-face" not in svg and "hello&#160;world" in svg


def test_a_shell_that_says_nothing_ends_the_recording(tmp_path):
    with Recorder("", tmp_path, ENVIRONMENT) as shell, pytest.raises(SystemExit, match="did not say"):
        shell.run("sleep 30", seconds=0.5)


# --- the documents' own ---


def test_the_recording_is_small_and_shows_no_path_of_the_machine_that_made_it():
    cast, svg = (DOCS / "session.cast").read_text(), (DOCS / "session.svg").read_text()
    assert len(cast.encode()) + len(svg.encode()) <= BYTES_MAX
    assert str(ROOT.parent) not in cast + svg and "/root/" not in cast + svg
    ET.fromstring(svg)


def test_the_recording_shows_a_failover_in_which_nothing_is_lost():
    _head, *events = map(json.loads, (DOCS / "session.cast").read_text().splitlines())
    text = printed([(at, said) for at, _kind, said in events])
    assert re.search(r"power-loss primary.*demo: degraded.*demo: protected.*\"lost\": 0", text, re.DOTALL), text
    assert '"connections_broken": 0' in text


def test_the_readme_shows_the_picture_and_says_how_to_replay_it():
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"!\[[^\]]{40,}\]\(docs/session\.svg\)", readme) and "asciinema play docs/session.cast" in readme
