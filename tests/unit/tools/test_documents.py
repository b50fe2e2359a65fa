# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents name things that exist: tests, mutants, faults of the simulator, modules of the runtime."""

from __future__ import annotations

import re

import pytest

from lab.paths import ROOT

RUNTIME = ROOT / "plugins" / "module_utils" / "plover"
TRACK_RECORD = (ROOT / "docs" / "track_record.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`((?:unit/\w+|system|integration|sim|lab|rdma|hostile)/test_\w+\.py)::(\w+)`", TRACK_RECORD)))
MUTANTS = sorted(
    {name for names in re.findall(r"mutants? ((?:`[a-z-]+`(?:, )?)+)", TRACK_RECORD) for name in re.findall(r"`([a-z-]+)`", names)}
)


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_test_in_the_track_record_exists(file, name):
    assert re.search(rf"^ *(async )?def {name}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_in_the_track_record_exists(name):
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "sim" / "mutants").glob("*.py"))
    assert re.search(rf"^@mutant\(.*\)\ndef {name.replace('-', '_')}\(", text, re.MULTILINE)


def test_the_track_record_was_read():
    assert len(TESTS) > 40 and len(MUTANTS) > 10


def test_no_fault_is_without_a_guard_or_a_word_why():
    rows = [line for line in TRACK_RECORD.splitlines() if re.match(r"\| \d\d, `[0-9a-f]{7}`", line)]
    assert len(rows) > 40
    unguarded = [row for row in rows if not re.search(r"::|mutant|simulated: ", row.split("|")[5])]
    assert all(row.split("|")[5].strip().startswith("none; ") for row in unguarded), unguarded


def test_the_architecture_names_the_rooms():
    section = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## Where things live")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.rstrip().endswith(("| yes |", "| pure |", "| values |"))]
    rooms = {path.name for path in RUNTIME.iterdir() if (path / "__init__.py").is_file()}
    assert {name for cell in rows for name in re.findall(r"`([a-z_]+)`", cell)} == rooms


def test_a_module_in_the_architecture_exists():
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?!tools/)[a-z_]+/[a-z_]+\.py)`", text))
    assert len(named) > 15 and [name for name in sorted(named) if not (RUNTIME / name).is_file()] == []


def headings(page):
    return {line.lstrip("#").strip().strip("`") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")}


def anchor(heading):
    """As a forge makes it of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


PAGES = sorted((ROOT / "docs").glob("*.md"))
LONG = [*PAGES, *ROOT.glob("*.md"), *(ROOT / "roles").glob("*/README.md")]


def test_the_readme_names_each_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if f"`docs/{page.name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_to_headings_that_it_has(page):
    linked = re.findall(r"\]\(#([^)]+)\)", page.read_text(encoding="utf-8"))
    assert sorted(set(linked) - set(map(anchor, headings(page)))) == []


@pytest.mark.parametrize("page", LONG, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_pages_that_exist(page):
    named = set(re.findall(r"`([\w./-]+\.md)`", page.read_text(encoding="utf-8")))
    assert sorted(name for name in named if not any((folder / name).is_file() for folder in (page.parent, ROOT, ROOT / "docs"))) == []


def test_a_section_that_is_named_exists():
    """``'When something failed' in docs/operations.md`` in a message or an alert; "`disks.md`, *A torn disk*" in a page."""
    sources = [p for folder in ("plugins", "roles", "playbooks") for p in (ROOT / folder).rglob("*") if p.suffix in {".py", ".yml", ".j2"}]
    found = set()
    for path in sources:
        text = " ".join(path.read_text(encoding="utf-8").split()).replace('" "', "").replace('" f"', "")
        found |= {(name, title) for title, name in re.findall(r"'([\w -]+)' in docs/(\w+)\.md", text)}
    assert found >= {("operations", "When something failed"), ("operations", "Cold start")}
    for page in LONG:
        found |= set(re.findall(r"`(?:docs/)?([\w-]+)\.md`, \*([^*]+)\*", " ".join(page.read_text(encoding="utf-8").split())))
    assert len(found) > 5
    there = {name: headings(ROOT / "docs" / f"{name}.md") for name, _title in found}
    assert [(name, title) for name, title in sorted(found) if not any(each.startswith(title) for each in there[name])] == []


def test_a_document_that_code_names_is_in_the_repository():
    folders = ("plugins", "native", "roles", "playbooks", "lab", "bench", "tools", "tests/sim", "docs")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in {".py", ".c", ".h", ".yml", ".j2", ".md"}]
    named = {name for p in [*files, *ROOT.glob("*.md")] for name in re.findall(r"\bdocs/[\w-]+\.md\b", p.read_text(encoding="utf-8"))}
    assert len(named) > 6 and [name for name in sorted(named) if not (ROOT / name).is_file()] == []
