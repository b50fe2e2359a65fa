# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection's tarball: an installed collection may use only meta/, plugins/, roles/ and playbooks/, so the
native sources and the runtime are packed into the roles that install them. The same tree gives the same packed files."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "build" / "pages"
PARTS = ("galaxy.yml", "README.md", "SECURITY.md", "LICENSE", "CHANGELOG.rst", "docs", "meta", "plugins", "roles", "playbooks")


def below(folder: Path, *parts: str) -> dict[str, Path]:
    """Name in the tar -> file, for each file of ``parts`` (files and folders of ``folder``)."""
    found = [p for part in parts for p in ([folder / part] if (folder / part).is_file() else (folder / part).rglob("*"))]
    return {str(p.relative_to(folder)): p for p in found if p.is_file() and "__pycache__" not in p.parts}


def pack(files: dict[str, Path]) -> bytes:
    """A plain tar: sorted, owner 0, time 0."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = path.stat().st_size, 0o755 if name.startswith("bin/") else 0o644
            with open(path, "rb") as file:
                tar.addfile(info, file)
    return out.getvalue()


def contents() -> dict[str, dict[str, Path]]:
    """The files to pack: for the runtime, everything in a version's folder on a host except the wheel and the native library.
    Its ``share`` is made anew first."""
    subprocess.run([sys.executable, str(ROOT / "tools" / "ctl_pages.py"), str(PAGES / "share")], check=True, stdin=subprocess.DEVNULL)
    modules = below(ROOT / "plugins" / "module_utils", "plover")
    return {
        "roles/native/files/plover-native.tar": below(ROOT / "native", "Makefile", "include", "src", "tests"),
        "roles/runtime/files/plover-runtime.tar": {f"lib/{name}": path for name, path in modules.items()}
        | below(ROOT / "roles" / "runtime" / "files", "bin", "host", "units")
        | below(PAGES, "share"),
    }


def bridge_script() -> bytes:
    """Role bridge's program as one file that Python runs: one file is copied faster than twelve."""
    out = io.BytesIO(b"#!/usr/bin/python3\n")
    out.seek(0, io.SEEK_END)
    main = ROOT / "roles" / "bridge" / "files" / "main.py"
    with zipfile.ZipFile(out, "w") as archive:
        for name, path in sorted({**below(ROOT / "plugins" / "module_utils" / "_ansible", "bridging"), "__main__.py": main}.items()):
            info = zipfile.ZipInfo(name)  # of 1980
            info.external_attr = 0o644 << 16
            archive.writestr(info, path.read_bytes())
    return out.getvalue()


def packed() -> dict[str, bytes]:
    return {name: pack(files) for name, files in contents().items()} | {"roles/bridge/files/plover-bridge": bridge_script()}


def galaxy(*words: str) -> None:
    binary = str(Path(sys.executable).parent / "ansible-galaxy")
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections")}
    subprocess.run([binary, "collection", *words], check=True, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def build(folder: Path) -> Path:
    """The tarball, made in ``folder``."""
    staging = folder / "collection"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, staging / part, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, staging / part)
    for name, data in packed().items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_bytes(data)
    for other in folder.glob("plover-vmft-*.tar.gz"):
        other.unlink()
    galaxy("build", "--force", "--output-path", str(folder), str(staging))
    (tarball,) = folder.glob("plover-vmft-*.tar.gz")
    return tarball


def main() -> int:
    tarball = build(ROOT / "build")
    galaxy("install", "--offline", "--force", "-p", str(ROOT / ".cache" / "collections"), str(tarball))
    return 0


if __name__ == "__main__":
    sys.exit(main())
