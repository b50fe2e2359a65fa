# SPDX-License-Identifier: GPL-3.0-or-later
"""Links of a folder of HTML pages that lead nowhere in it: to a page, a file or an anchor that is not there."""

from __future__ import annotations

import urllib.parse
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """``links``: as written; ``anchors``: what a link to this page may end in after a #."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]


def dead_links(folder: Path) -> list[str]:
    """``page: link`` for each of them. Links to other sites are not followed."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = [(path, link) for path, page in pages.items() for link in page.links if _dead(path, link, pages)]
    return [f"{path.relative_to(folder.resolve())}: {link}" for path, link in found]


def _dead(path: Path, link: str, pages: dict[Path, Page]) -> bool:
    parts = urllib.parse.urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    anchor = urllib.parse.unquote(parts.fragment)
    return not target.exists() or (target in pages and anchor not in pages[target].anchors)
