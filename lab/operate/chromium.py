# SPDX-License-Identifier: GPL-3.0-or-later
"""Headless Chromium from Debian's packages: unpacked into the cache, nothing is installed."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from .. import base
from ..guest_image import make
from ..paths import CACHE

PACKAGES = ["chromium-headless-shell", "fonts-dejavu-core", "libnss3-tools"]
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PROGRAM = "usr/lib/chromium/chromium-headless-shell"
# What draws by a graphics card, and what only developers of drivers need: half of the bytes.
LEFT_OUT = shutil.ignore_patterns("libLLVM*", "libz3*", "dri", "libVkLayer*", "libVkICD*", "*.TOC")
CERTUTIL_S = 20
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>{tree}/usr/share/fonts</dir><cachedir>{tree}/fonts-cache</cachedir></fontconfig>
"""


class Chromium(NamedTuple):
    tree: Path

    @property
    def program(self) -> Path:
        return self.tree / PROGRAM

    def environment(self, home: Path) -> dict[str, str]:
        """Chromium's libraries and fonts, and its certificates in ``home``; nothing of the user's."""
        fonts = home / "fonts.conf"
        fonts.write_text(FONTS.format(tree=self.tree))
        folders = [str(self.tree / LIBRARIES), str(self.tree / LIBRARIES / "pulseaudio")]
        return {"PATH": os.environ["PATH"], "HOME": str(home), "LD_LIBRARY_PATH": ":".join(folders), "FONTCONFIG_FILE": str(fonts)}

    def trust(self, home: Path, authority: Path) -> None:
        """Believe certificates of this CA, as a user would have the browser do it."""
        store = home / ".pki" / "nssdb"
        store.mkdir(parents=True)  # over a store that is there, certutil asks for ever
        for words in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "plover", "-i", str(authority)]):
            command = [str(self.tree / "usr/bin/certutil"), "-d", f"sql:{store}", *words]
            subprocess.run(command, env=self.environment(home), stdin=subprocess.DEVNULL, check=True, timeout=CERTUTIL_S)


def packages() -> list[str]:
    """name=version of Chromium and of all that it needs beside a minimal Debian."""
    return base.lacking(base.rootfs(), PACKAGES)


def _take(tree: Path, out: Path) -> None:
    for folder in ("usr/lib/chromium", LIBRARIES, "usr/share/fonts"):
        shutil.copytree(tree / folder, out / folder, symlinks=True, ignore=LEFT_OUT)
    (out / "usr/bin").mkdir()
    shutil.copy(tree / "usr/bin/certutil", out / "usr/bin")
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{out / LIBRARIES}:{out / LIBRARIES / 'pulseaudio'}"}
    needed = subprocess.run(["ldd", str(out / PROGRAM)], env=environment, capture_output=True, text=True, check=True).stdout
    if missing := [line.split()[0] for line in needed.splitlines() if "not found" in line]:
        raise SystemExit(f"chromium: libraries not among the packages: {' '.join(missing)}")


@functools.cache
def build() -> Chromium:
    """Of today's Debian packages, from the cache if possible."""
    wanted = packages()
    target = CACHE / f"chromium-{hashlib.sha256(repr([wanted, Path(__file__).read_text()]).encode()).hexdigest()[:12]}"
    if not (target / PROGRAM).exists():
        make(target, wanted, _take)
    return Chromium(target)


if __name__ == "__main__":
    print(build().program)
