# SPDX-License-Identifier: GPL-3.0-or-later
"""Dead links of the documents' site are found, and others are left alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
from dead_links import dead_links  # noqa: E402


@pytest.fixture
def site(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "index.html").write_text('<h1 id="here">A</h1><a href="../index.html#top">up</a>')
    (tmp_path / "style.css").write_text("")

    def make(body):
        (tmp_path / "index.html").write_text(f'<html><a name="old"></a><p id="place">x</p>{body}</html>')
        return dead_links(tmp_path)

    return make


@pytest.mark.parametrize(
    "link",
    [
        "#place",
        "#old",
        "#top",
        "#",
        "a%20b/index.html",
        "a b/#here",
        "a b/index.html#here",
        "style.css?v=3",
        "https://x.example/y",
        "mailto:a@b",
    ],
)
def test_a_link_that_leads_somewhere_is_no_finding(site, link):
    assert site(f'<a href="{link}">x</a>') == []


@pytest.mark.parametrize("link", ["#nowhere", "gone.html", "a b/index.html#place", "../out.html", "a%20c/"])
def test_a_link_that_leads_nowhere_is_one(site, link):
    assert site(f'<a href="{link}">x</a>') == [f"index.html: {link}"]


def test_pictures_and_scripts_count(site):
    assert site('<img src="gone.png"><script src="style.css"></script>') == ["index.html: gone.png"]
