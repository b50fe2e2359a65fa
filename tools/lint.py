# SPDX-License-Identifier: GPL-3.0-or-later
"""All quality gates: `make lint`, or some of them by name. Prints a line for each, then the output of those that failed."""

from __future__ import annotations

import concurrent.futures
import filecmp
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import licence
import pythons

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".cache" / "venv-lint" / "bin"
COLLECTIONS = ROOT / ".cache" / "collections"
SANITY = ROOT / "build" / "sanity"
REFERENCE = ROOT / "docs" / "reference"
TIMEOUT_S = 900
AT_ONCE = 2
PIP_SAYS = re.compile(
    r"Looking in |Collecting |  Downloading |     .*━|Processing |Installing (req|coll)|Successfully inst"
    r"|Using cached pip |WARNING: Location "
)
# No version manager's shims: ansible-test would take them for interpreters.
ENV = {
    **os.environ,
    "PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "NO_COLOR": "1",
    "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
    "ANSIBLE_HOME": str(ROOT / ".cache" / "ansible"),
    "LC_ALL": "C.UTF-8",
    "PIP_QUIET": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


def run(*command: str, cwd: Path = ROOT, must_not_say: str | None = None, **env: str) -> str:
    """A command's output if it failed or printed ``must_not_say``; empty otherwise."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**ENV, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    # Not what pip says: it would name this machine's package index.
    said = "".join(line for line in done.stdout.splitlines(keepends=True) if not PIP_SAYS.match(line))
    wrong = done.returncode or (must_not_say and must_not_say in done.stdout)
    return f"{said}\n(exit status {done.returncode})" if wrong else ""


def ruff() -> str:
    """`make format` mends most complaints of both."""
    return run("ruff", "check", "--output-format", "concise", ".") + run("ruff", "format", "--check", ".")


def mypy() -> str:
    """Strict types, for the files that pyproject.toml lists."""
    return run("mypy", "--no-error-summary")


def licences() -> str:
    return "\n".join(licence.missing())


def ansible_lint() -> str:
    return run("ansible-lint", "--format", "pep8", ".")


def sanity() -> str:
    """ansible-test sanity on a copy of the tarball's files, as it needs a path that ends in the collection's name."""
    folder = SANITY / "ansible_collections" / "plover" / "vmft"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "build" / "collection", folder)
    shutil.copytree(ROOT / "changelogs", folder / "changelogs", ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "config.yml", folder / "tests")
    home, others = sanity_home(), other_pythons()
    green = home / f"green-{digest(folder, others)}"  # the same files with the same tools: it would say the same
    if green.exists():
        return ""
    # A repository of its own: else it asks the project's what there is, which ignores this folder, and tests nothing.
    failed = run("git", "init", "--quiet", cwd=folder) or run(
        "ansible-test",
        "sanity",
        "--color",
        "no",
        cwd=folder,
        must_not_say="All targets skipped",
        HOME=str(home),
        PATH=f"{ENV['PATH']}:{others}",
    )
    if not failed:
        for old in home.glob("green-*"):
            old.unlink()
        green.touch()
    return failed


def digest(folder: Path, others: Path) -> str:
    """A digest of everything on which ansible-test's verdict depends."""
    out = hashlib.sha256((ROOT / "requirements" / "lint.txt").read_bytes())
    for path in [*sorted(p for p in folder.rglob("*") if p.is_file()), *sorted(others.iterdir())]:
        data = path.read_bytes() if path.parent != others else str(path.resolve()).encode()
        out.update(f"{path.relative_to(SANITY)} {path.stat().st_mode & 0o111} {len(data)}\n".encode() + data)
    return out.hexdigest()[:16]


def sanity_home() -> Path:
    """ansible-test keeps its environments, and looks for the script that it gets pip with, in the home directory."""
    home = ROOT / ".cache" / "ansible-test"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in ("24_2", "25_2", "25_3"):  # what ansible-core's releases ask for; the script is the same
        shutil.copy(ROOT / "tools" / "get_pip.py", cache / f"get_pip_{version}.py")
    settings = home / ".config"
    if not settings.is_symlink():
        settings.symlink_to(Path.home() / ".config")  # pip's index, if the user has one of their own
    return home


def other_pythons() -> Path:
    """A folder with the Pythons that only a version manager has, so that the code is compiled and imported with them too."""
    folder = SANITY / "pythons"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for minor in pythons.MINORS:
        if not shutil.which(f"python3.{minor}", path=ENV["PATH"]) and (found := pythons.find(minor)):
            (folder / f"python3.{minor}").symlink_to(found)
    return folder


def docs_lint() -> str:
    return run(
        "antsibull-docs",
        "lint-collection-docs",
        "--plugin-docs",
        "--validate-collection-refs",
        "self",
        "--disallow-unknown-collection-refs",
        str(ROOT),
    )


def make_reference(folder: Path, output_format: str = "simplified-rst") -> str:
    return run(
        "antsibull-docs",
        "--config-file",
        str(ROOT / "tools" / "antsibull-docs.cfg"),
        "collection",
        "plover.vmft",
        "--use-current",
        "--squash-hierarchy",
        "--fail-on-error",
        "--no-add-antsibull-docs-version",
        "--output-format",
        output_format,
        "--cleanup",
        "everything",
        "--dest-dir",
        str(folder),
    )


def write_reference() -> int:
    with tempfile.TemporaryDirectory() as name:  # antsibull-docs writes only where nobody else can
        failed = make_reference(Path(name))
        if not failed:
            shutil.rmtree(REFERENCE, ignore_errors=True)
            shutil.copytree(name, REFERENCE)
            REFERENCE.chmod(0o755)
    print(failed or f"written: {REFERENCE.relative_to(ROOT)}/")
    return 1 if failed else 0


def reference() -> str:
    """Whether docs/reference/ is up to date with the documentation in modules and roles."""
    with tempfile.TemporaryDirectory() as name:
        failed = make_reference(Path(name))
        if failed:
            return failed
        there, made = ({p.name for p in folder.iterdir()} for folder in (REFERENCE, Path(name)))
        _same, differ, _bad = filecmp.cmpfiles(REFERENCE, name, there & made, shallow=False)
    stale = sorted((there ^ made) | set(differ))
    return f"docs/reference/ is not what is documented now ({', '.join(stale)}); run 'make docs'" if stale else ""


def changelog() -> str:
    """The fragments and changelog.yaml are well-formed, and CHANGELOG.rst is up to date with them."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name, "CHANGELOG.rst")
        failed = (
            run("antsibull-changelog", "lint")
            or run("antsibull-changelog", "lint-changelog-yaml", "changelogs/changelog.yaml")
            or run("antsibull-changelog", "generate", "--output", str(made))
        )
        if failed:
            return failed
        if made.read_bytes() != (ROOT / "CHANGELOG.rst").read_bytes():
            return "CHANGELOG.rst is not what changelogs/ makes; write a fragment into changelogs/fragments/ and run 'make changelog'"
    return ""


def environment() -> str:
    """An execution environment's builder takes our files, and its packages can be named for this system."""
    with tempfile.TemporaryDirectory() as name:
        packages = Path(name, "bindep.txt")
        failed = run("ansible-builder", "introspect", str(COLLECTIONS), "--write-bindep", str(packages))
        if failed or "gcc" not in packages.read_text():
            return failed or "meta/execution-environment.yml: its packages are not taken"
        return run("bindep", "--list_all", "newline", "--file", str(packages))


GATES: dict[str, Callable[[], str]] = {
    "sanity": sanity,
    "ansible-lint": ansible_lint,
    "docs": docs_lint,
    "reference": reference,
    "changelog": changelog,
    "environment": environment,
    "ruff": ruff,
    "mypy": mypy,
    "licences": licences,
}


def gate(name: str) -> tuple[str, str, float]:
    began = time.monotonic()
    try:
        said = GATES[name]()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = f"{type(error).__name__}: {error}"
    return name, said, time.monotonic() - began


def main(names: list[str]) -> int:
    if names == ["--write-reference"]:
        return write_reference()
    unknown = sorted(set(names) - set(GATES))
    if unknown:
        print(f"lint: no gate {', '.join(unknown)}; there are {', '.join(GATES)}")
        return 2
    failed = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for done in concurrent.futures.as_completed([pool.submit(gate, name) for name in names or GATES]):
            name, said, seconds = done.result()
            print(f"lint: {name:14}{'FAILED' if said else 'ok':6} {seconds:5.1f} s", flush=True)
            failed += [(name, said)] if said else []
    for name, said in failed:
        print(f"\n==== {name}\n{said.strip()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
