# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes requirements/NAME.txt from NAME.in: every package that it needs, pinned, with the hashes of all files that the index has.

Pins that still fit stay; ``--upgrade`` takes the newest that fit. ``make requirements`` runs it.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
PYTHON = "3.11"  # Debian 12's
NEWER = {"newest": "3.12"}
HEADER = """# SPDX-License-Identifier: GPL-3.0-or-later
# Made from {name}.in by `make requirements`; do not edit. Of {sums}.
"""
_INCLUDE = re.compile(r"^-r (\S+)\.in$", re.MULTILINE)
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)", re.MULTILINE)


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.in"))


def sums(name: str) -> str:
    """What a lock was made of: a lock that is older than its source is found by this."""
    texts = {name: (FOLDER / f"{name}.in").read_bytes()}
    for other in _INCLUDE.findall(texts[name].decode()):
        texts[other] = (FOLDER / f"{other}.in").read_bytes()
    return ", ".join(f"{part}.in {hashlib.sha256(text).hexdigest()[:16]}" for part, text in texts.items())


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def pins(text: str) -> dict[str, str]:
    return {normal(package): version for package, version in _PIN.findall(text)}


def lock(name: str, uv: str, *options: str) -> None:
    path = FOLDER / f"{name}.txt"
    words = [uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--python-platform", "linux"]
    words += ["--python-version", NEWER.get(name, PYTHON), f"{name}.in", "--output-file", path.name, *options]
    subprocess.run(words, cwd=FOLDER, check=True, stdin=subprocess.DEVNULL)
    path.write_text(HEADER.format(name=name, sums=sums(name)) + path.read_text())


def main(argv: list[str]) -> int:
    uv = str(Path(sys.executable).parent / "uv")
    for name in names():
        lock(name, uv, *argv)
        print(f"requirements/{name}.txt: {len(pins((FOLDER / f'{name}.txt').read_text()))} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
