# SPDX-License-Identifier: GPL-3.0-or-later
"""The C library's target: ``native/tests/fuzz_native.c`` under ASan and UBSan. Its corpus and its cases lie beside the others;
``make -C native replay`` replays them.
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import tempfile
from pathlib import Path

from . import ROOT
from .engine import CASES, CORPUS

NAME = "native"
BINARY = ROOT / "native" / "build" / "fuzz_native"
LIMIT_S = 60.0  # beyond the seconds that it shall take
SUMMARY = re.compile(r"(\d+) executions, (\d+) in the corpus, (\d+) new")
KIND = re.compile(r"SUMMARY: \w+: ([\w-]+) \S*?(\w+\.c):(\d+)|(runtime error): |broken promise: (.*)")
TAIL_CHARACTERS = 2000


def build() -> None:
    subprocess.run(["make", "-s", "-C", str(ROOT / "native"), "fuzz"], check=True)


def inputs() -> list[str]:
    """Files of the corpus and of the cases."""
    return [str(path) for base in (CORPUS, CASES) for path in sorted((base / NAME).glob("*"))]


def call(seconds: float, seed: str, current: str, found: str, files: list[str]) -> subprocess.CompletedProcess[str]:
    words = [str(BINARY), str(seconds), hashlib.sha256(seed.encode()).hexdigest()[:16], current, found, *files]
    return subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, timeout=seconds + LIMIT_S)


def fuzz(seconds: float, seed: str, keep: bool) -> tuple[int, int, int, list[Path], str]:
    """(executions, inputs in the corpus, new ones, cases of crashes, what the sanitizer says of one)."""
    build()
    found = CORPUS / NAME
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile() as current:
        done = call(seconds, seed, current.name, str(found) if keep else "-", inputs())
        if done.returncode:
            (length,), rest = struct.unpack("=I", current.read(4)), current.read()
            return 0, 0, 0, [_save(rest[:length], done.stderr)], done.stderr[-TAIL_CHARACTERS:]
    executions, corpus, new = map(int, SUMMARY.findall(done.stdout)[0])
    return executions, corpus, new, [], ""


def _save(data: bytes, stderr: str) -> Path:
    kind = KIND.search(stderr)
    words = "-".join(filter(None, kind.groups())) if kind else "crash"
    path = CASES / NAME / re.sub(r"[^\w-]+", "_", words)[:60]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
