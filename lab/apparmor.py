# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's AppArmor, unpacked into the cache and never installed: its parser is one file that runs anywhere."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from pathlib import Path

from .guest_image import run, versions
from .paths import CACHE

PACKAGE = "apparmor"
PARSER = "sbin/apparmor_parser"
RULES = "etc/apparmor.d"


@functools.cache
def tree() -> Path:
    found = versions([PACKAGE])
    target = CACHE / f"apparmor-{hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]}"
    if target.exists():
        return target
    scratch = target.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE, cwd=scratch)
    run("dpkg-deb", "-x", str(next(scratch.glob("*.deb"))), str(scratch / "tree"))
    (scratch / "tree").rename(target)
    shutil.rmtree(scratch)
    return target
