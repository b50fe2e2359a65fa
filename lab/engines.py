# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMUs that users have, each with its own libraries, firmware and modules: this machine's, and others unpacked from Debian's packages.

`python -m lab.engines NAME TEST...` runs tests/integration/test_TEST.py with the QEMU of that name, and adds its row to
build/engines/result.json. `make test-engines` runs all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from . import base
from .paths import BUILD, CACHE, ROOT

sys.path.insert(0, str(ROOT / "plugins" / "module_utils"))

from plover.host import kernel_tracking

INSTALLED = Path("/usr/bin/qemu-system-x86_64")
PACKAGES = ("qemu-system-x86", "seabios")
OUT = BUILD / "engines"
ENDED = (0, 1)  # pytest's exit status where it ran all tests
# Its own modules and firmware, and not those of the machine that it runs on. Linked statically, so that LD_PRELOAD, with which
# Plover's library comes into QEMU, passes it by: that library would take its orders from the environment here.
SOURCE = """
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{{
    static char *const more[] = {{"-L", "{root}/usr/share/qemu", "-L", "{root}/usr/share/seabios", "-L", "{root}/usr/lib/ipxe/qemu"}};
    enum {{ MORE = sizeof more / sizeof *more }};
    char **all = calloc((size_t)argc + MORE + 1, sizeof *all);
    if (!all || setenv("QEMU_MODULE_DIR", "{root}/usr/lib/x86_64-linux-gnu/qemu", 1)) return 126;
    all[0] = "{program}";
    for (int n = 0; n < MORE; n++) all[1 + n] = more[n];
    for (int n = 1; n < argc; n++) all[MORE + n] = argv[n];
    execv("{program}", all);
    return 127;
}}
"""


class Engine(NamedTuple):
    """``release`` of Debian that has it. None: this machine's, which must be of that version."""

    release: str | None = None
    backports: bool = False


ENGINES = {"7.2": Engine(), "10.0": Engine("trixie"), "11.1": Engine("trixie", backports=True)}


def binary(name: str) -> Path:
    """A program to be named by setting qemu_binary. Made when first asked for."""
    engine = ENGINES[name]
    program = _unpacked(name, engine) if engine.release else INSTALLED
    found = version(program)
    if not found.startswith(f"{name}."):
        raise SystemExit(
            f"{program} is QEMU {found}, wanted {name}; this machine must be a Debian 12, and its mirror have {engine.release}"
        )
    return program


def version(program: Path) -> str:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"version (\d+\.\d+\.\d+)", said)
    return found[1] if found else said.strip()


def _unpacked(name: str, engine: Engine) -> Path:
    key = hashlib.sha256(f"{engine}{PACKAGES}{SOURCE}".encode()).hexdigest()[:12]
    folder = CACHE / f"qemu-{name}-{key}"
    with locked(CACHE / f"qemu-{name}.lock"):
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _unpack(folder / "root", engine)
            _make_runnable(folder)
            (folder / ".complete").touch()
    return folder / "qemu-system-x86_64"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One test run at a time, of two side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(root: Path, engine: Engine) -> None:
    """The packages are not installed: their files are all that is needed."""
    release, sources = sources_of(engine, root.parent)
    options = [f'--aptopt=APT::Default-Release "{release}-backports"'] if engine.backports else []
    words = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}", *options, release]
    subprocess.run([*words, str(root), str(sources)], check=True)


def sources_of(engine: Engine, folder: Path) -> tuple[str, Path]:
    """(the release of Debian that has it, a file in ``folder`` with its package sources): this machine's mirror with another suite."""
    mine = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    codename = mine[1] if mine else "bookworm"
    release = engine.release or codename
    text = base.sources().read_text().replace(codename, release)
    if engine.backports:
        text = re.sub(rf"\b{release}-updates\b", f"{release}-updates {release}-backports", text)
    sources = folder / ("other.sources" if "URIs:" in text else "other.list")
    sources.write_text(text)
    return release, sources


def _make_runnable(folder: Path) -> None:
    root = folder / "root"
    program = root / "usr/bin/qemu-system-x86_64"
    loader, libraries = root / "usr/lib64/ld-linux-x86-64.so.2", root / "usr/lib/x86_64-linux-gnu"
    subprocess.run(["patchelf", "--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries, program], check=True)
    source = SOURCE.format(root=root, program=program).encode()
    subprocess.run(["gcc", "-static", "-O1", "-x", "c", "-", "-o", folder / "qemu-system-x86_64"], input=source, check=True)


# ---- the table of what was tested ----------------------------------------------------------------------------------
def counted(report: bytes, status: int) -> tuple[int, int]:
    """(tests, failed) of a report in JUnit's form. ``status``: pytest's. A run that did not come to its end counts as a further test,
    which failed."""
    broken_off = int(status not in ENDED or not report)
    if not report:
        return broken_off, broken_off
    suites = ElementTree.fromstring(report).iter("testsuite")
    found = [{key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")} for suite in suites]
    tests = sum(each["tests"] - each["skipped"] for each in found)
    return tests + broken_off, sum(each["failures"] + each["errors"] for each in found) + broken_off


def write_row(folder: Path, facts: dict[str, str], tests: dict[str, tuple[int, int]]) -> None:
    """Add what these test files gave; the newest result of each file counts."""
    with locked(folder / "lock"):
        _add(folder, facts, tests)


def _add(folder: Path, facts: dict[str, str], tests: dict[str, tuple[int, int]]) -> None:
    path = folder / "parts.json"
    parts: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    parts = [part for part in parts if (part["facts"], part["file"] in tests) != (facts, True)]
    parts += [{"facts": facts, "file": file, "tests": count, "failed": failed} for file, (count, failed) in tests.items()]
    path.write_text(json.dumps(parts, indent=1) + "\n")
    rows = []
    for each in dict.fromkeys(json.dumps(part["facts"]) for part in parts):
        mine = [part for part in parts if json.dumps(part["facts"]) == each]
        rows.append({**json.loads(each), **{key: sum(part[key] for part in mine) for key in ("tests", "failed")}})
    (folder / "result.json").write_text(json.dumps(rows, indent=1) + "\n")


def facts_of(program: Path, accel: str = "tcg") -> dict[str, str]:
    kernel = ".".join(platform.release().split(".")[:2])
    return {"qemu": version(program), "accel": accel, "kernel": kernel, "tracking": kernel_tracking.choose(Path("/dev/shm"))[0]}


def run(name: str, files: list[str]) -> int:
    program = binary(name)
    facts, results = facts_of(program), {}
    for file in files:
        report = OUT / f"{name}-{file}.xml"
        report.unlink(missing_ok=True)
        words = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", f"tests/integration/test_{file}.py"]
        done = subprocess.run(words, cwd=ROOT, env={**os.environ, "PLOVER_TEST_QEMU": str(program)}, check=False)
        results[file] = counted(report.read_bytes() if report.exists() else b"", done.returncode)
    return note(facts, results)


def note(facts: dict[str, str], results: dict[str, tuple[int, int]]) -> int:
    """Into the table, and onto the screen. An exit status: 1 if a test failed."""
    write_row(OUT, facts, results)
    failed = sum(each for _tests, each in results.values())
    print(f"QEMU {facts['qemu']}, {facts['accel']}, kernel {facts['kernel']}, {facts['tracking']}:", end=" ")
    print(f"{sum(tests for tests, _failed in results.values()) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.engines", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(ENGINES))
    parser.add_argument("files", nargs="*", metavar="TEST", help="main_job for tests/integration/test_main_job.py; none: unpack it only")
    options = parser.parse_args()
    if not options.files:
        print(binary(options.name))
        return 0
    return run(options.name, options.files)


if __name__ == "__main__":
    sys.exit(main())
