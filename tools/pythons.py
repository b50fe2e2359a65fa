# SPDX-License-Identifier: GPL-3.0-or-later
"""Pythons of this machine that really run: on PATH, else of a pyenv, whose shims on PATH often lead nowhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

MINORS = (14, 13, 12, 11)
TIMEOUT_S = 20


def said(*command: str) -> str:
    """Standard output of a command that ends well, else nothing."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def runs(path: str, minor: int) -> bool:
    """Whether it is that Python, and can make a virtual environment."""
    code = "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.')"
    return bool(path) and said(path, "-c", code) == f"3.{minor}"


def find(minor: int) -> Path | None:
    """The interpreter itself, not a shim that needs its manager's settings."""
    candidates = [shutil.which(f"python3.{minor}") or ""]
    prefix = said("pyenv", "prefix", f"3.{minor}")
    candidates += [f"{prefix}/bin/python3.{minor}"] if prefix else []
    for path in candidates:
        if runs(path, minor):
            real = said(path, "-c", f"import sys; print(sys.base_prefix + '/bin/python3.{minor}')")
            return Path(real) if runs(real, minor) else Path(path)
    return None


def newest(at_least: int) -> Path | None:
    return next((path for minor in MINORS if minor >= at_least and (path := find(minor))), None)


if __name__ == "__main__":
    found = newest(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(found or "", end="\n" if found else "")
    sys.exit(0 if found else 1)
