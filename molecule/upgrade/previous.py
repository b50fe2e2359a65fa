# SPDX-License-Identifier: GPL-3.0-or-later
"""FOLDER: build and install the previous version of the collection below it, by that version's own tool. Prints JSON: where
its collections are, its version, and what its play is given beside the inventory."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COMMIT = "d32cf12348984e3aacf7b220ab3111eae37a161d"  # 0.1.0, before versions stood side by side
OPTIONS = ["-e", "plover_wheel_dir=/srv/wheels"]  # then a folder of the hosts
PARTS = (
    *("galaxy.yml", "README.md", "SECURITY.md", "LICENSE", "CHANGELOG.rst"),
    *("docs", "meta", "plugins", "roles", "playbooks", "native", "tools"),
)


def archive() -> bytes | None:
    done = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def stand_in(tree: Path) -> None:
    """This tree under another number, where the clone is too shallow for the commit."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("build", "__pycache__"))
        elif (ROOT / part).exists():
            shutil.copy(ROOT / part, tree / part)
    for name in ("galaxy.yml", "plugins/module_utils/plover/__init__.py"):
        path = tree / name
        path.write_text(re.sub(r"\d+\.\d+\.\d+[\w.-]*", "0.0.9", path.read_text(), count=1))


def main() -> int:
    tree = Path(sys.argv[1]) / "previous"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    data = archive()
    if data:
        subprocess.run(["tar", "-x"], input=data, cwd=tree, check=True)
    else:
        print(f"commit {COMMIT} is not in this clone: the previous version is this tree, numbered 0.0.9", file=sys.stderr)
        stand_in(tree)
    subprocess.run(
        [sys.executable, "tools/build_collection.py"], cwd=tree, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    version = re.search(r"^version: (\S+)", (tree / "galaxy.yml").read_text(), re.MULTILINE)[1]
    print(
        json.dumps(
            {
                "collections": str(tree / ".cache" / "collections"),
                "version": version,
                "options": OPTIONS if data else [],
                "pinned": bool(data),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
