# SPDX-License-Identifier: GPL-3.0-or-later
"""Each tracked file that can hold a comment names its licence in its first lines. Lists files that do not; --fix adds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePath

ROOT = Path(__file__).resolve().parent.parent
TAG = "SPDX-License-Identifier: GPL-3.0-or-later"
HEAD_LINES = 3
HASH, SLASH, HTML, JINJA = ("# ", ""), ("/* ", " */"), ("<!-- ", " -->"), ("{# ", " #}")
DASH, DOTS = ("-- ", ""), (".. ", "")
STYLES = {".c": SLASH, ".h": SLASH, ".md": HTML, ".svg": HTML, ".j2": JINJA, ".lua": DASH, ".rst": DOTS}  # others: HASH
NO_COMMENT = {
    ".json": "JSON has none",
    ".cast": "lines of JSON; the first one names it",
    "LICENSE": "the licence itself",
    "requirements/debian.txt": "every word of it is a package for apt-get",
    "requirements/lint-debian.txt": "likewise",
    "tests/sim/transcripts/": "compared to the letter with what the simulator prints",
    "tests/fuzz/corpus/": "inputs as a decoder gets them",
    "tests/fuzz/cases/": "likewise",
    "CHANGELOG.rst": "made by antsibull-changelog",
    "changelogs/changelog.yaml": "rewritten by antsibull-changelog",
    "docs/reference/": "made by antsibull-docs",
}


def style(name: str) -> tuple[str, str] | None:
    """The marks around a comment in the file ``name``; None if it can hold none."""
    suffix = PurePath(name).suffix
    if suffix in NO_COMMENT or any(name == key or (key.endswith("/") and name.startswith(key)) for key in NO_COMMENT):
        return None
    return STYLES.get(suffix, HASH)


def has_header(text: str) -> bool:
    return any(TAG in line for line in text.splitlines()[:HEAD_LINES])


def with_header(text: str, around: tuple[str, str]) -> str:
    """``text`` with the line at its top, after the interpreter line if there is one."""
    header = f"{around[0]}{TAG}{around[1]}\n"
    if text.startswith("#!"):
        first, _newline, rest = text.partition("\n")
        return f"{first}\n{header}{rest}"
    return header + text


def tracked() -> list[str]:
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return sorted(name for name in out.split("\0") if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink())


def missing(fix: bool = False) -> list[str]:
    """A sentence for each file without the line; with ``fix`` the line is added instead."""
    out = []
    for name in tracked():
        around = style(name)
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # no text, no comment
        if around is None or not text or has_header(text):
            continue
        if fix:
            (ROOT / name).write_text(with_header(text, around), encoding="utf-8")
        else:
            out.append(f"{name}: no line '{around[0]}{TAG}{around[1]}'; add it, or run 'python3 tools/licence.py --fix'")
    return out


if __name__ == "__main__":
    sys.exit("\n".join(missing(fix="--fix" in sys.argv[1:])) or 0)
