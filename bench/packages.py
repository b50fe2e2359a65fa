# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that the benchmarks need: Debian packages, unpacked into the project's cache and not installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.paths import CACHE, ROOT

LIST = ROOT / "requirements/bench-debian.txt"


def tree() -> Path:
    """Folder of all packages of the list; fetched with apt if it is not there yet."""
    packages = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    folder = CACHE / f"bench-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:16]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages]
            if subprocess.run(fetch, cwd=scratch).returncode:
                subprocess.run(["apt-get", "-qq", "update"], check=True)
                subprocess.run(fetch, cwd=scratch, check=True)
            for package in Path(scratch).glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", str(package), str(Path(scratch, "tree"))], check=True)
            shutil.move(Path(scratch, "tree"), folder)
    return folder


def libraries() -> dict[str, str]:
    """Environment in which a program of the tree finds the tree's libraries."""
    return {"LD_LIBRARY_PATH": str(tree() / "usr/lib/x86_64-linux-gnu")}
