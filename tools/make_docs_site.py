# SPDX-License-Identifier: GPL-3.0-or-later
"""make docs-site: the documents, and the pages of roles and modules, as a site in build/docs-site/html. Dead links are refused.

Sphinx reads a copy of the documents that is laid out as the repository, so that the links between them work here as there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from dead_links import dead_links
from lint import make_reference

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "docs-site"
SOURCE, HTML = SITE / "source", SITE / "html"
SPHINX = ROOT / ".cache" / "venv-docs" / "bin" / "sphinx-build"
CONTENTS = re.compile(r"^\.\. contents::\n(?: +:.*\n)*", re.MULTILINE)  # each page of the site has that beside it
DOCUMENTS = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.rst", "docs/*.md", "docs/session.*", "roles/*/README.md")


def lay_out() -> None:
    shutil.rmtree(SITE, ignore_errors=True)
    for path in (path for pattern in DOCUMENTS for path in ROOT.glob(pattern)):
        target = SOURCE / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for path in (ROOT / "tools" / "docs_site").iterdir():
        shutil.copy(path, SOURCE)
    (SOURCE / "reference").mkdir(mode=0o700)  # antsibull-docs writes only where nobody else can
    if failed := make_reference(SOURCE / "reference", "ansible-docsite"):
        raise SystemExit(failed)
    for page in (SOURCE / "reference").glob("*.rst"):
        page.write_text(CONTENTS.sub("", page.read_text()).replace("<index.rst>", "<index.html>"))


def main() -> int:
    lay_out()
    made = subprocess.run([SPHINX, "-q", "-W", "--keep-going", "-b", "html", SOURCE, HTML], stdin=subprocess.DEVNULL, check=False)
    if made.returncode:
        return made.returncode
    dead = dead_links(HTML)
    for link in dead:
        print(f"docs-site: dead link: {link}")
    print(f"docs-site: {len(list(HTML.rglob('*.html')))} pages in {HTML.relative_to(ROOT)}, {len(dead)} dead links")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
