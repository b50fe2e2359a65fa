# SPDX-License-Identifier: GPL-3.0-or-later
"""KEY: build the tarball, its bill of materials and their signatures in build/release. docs/release.md says who does what with them.

KEY is the fingerprint of the maintainer's key in their own GnuPG; it asks for the passphrase itself, and no key is kept here.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import sbom
from build_collection import ROOT, build

OUT = ROOT / "build" / "release"
FINGERPRINT = re.compile(r"(0x)?[0-9A-Fa-f]{40}\Z")


class ReleaseError(Exception):
    """What is to be done first."""


def said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sign(path: Path, key: str) -> Path:
    """A detached signature beside ``path``."""
    out = path.with_name(path.name + ".asc")
    done = subprocess.run(
        ["gpg", "--yes", "--armor", "--local-user", key, "--output", str(out), "--detach-sign", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ReleaseError(f"KEY: gpg does not sign with {key}: {done.stderr.strip()}")
    return out


def manifest_of(tarball: Path) -> bytes:
    with tarfile.open(tarball) as tar:
        file = tar.extractfile("MANIFEST.json")
        if file is None:
            raise ReleaseError(f"{tarball}: has no MANIFEST.json; run 'make build'")
        return file.read()


def make(folder: Path, key: str, when: str) -> list[Path]:
    """All files of the release. ansible-galaxy checks the signature of MANIFEST.json, which names every other file's digest."""
    if not FINGERPRINT.match(key):
        raise ReleaseError("KEY: must be the whole fingerprint of a key, 40 digits; 'gpg --list-secret-keys' shows yours")
    folder.mkdir(parents=True, exist_ok=True)
    tarball = build(folder)
    stem = tarball.name.removesuffix(".tar.gz")
    manifest, bill = folder / f"{stem}-MANIFEST.json", folder / f"{stem}.cdx.json"
    manifest.write_bytes(manifest_of(tarball))
    bill.write_text(sbom.of(tarball, digest(tarball), when), encoding="utf-8")
    signature, sums = sign(manifest, key), folder / "SHA256SUMS"
    manifest.unlink()
    files = [tarball, bill, signature]
    sums.write_text("".join(f"{digest(path)}  {path.name}\n" for path in files), encoding="utf-8")
    return [*files, sums, sign(sums, key)]


def main(argv: list[str]) -> int:
    try:
        if len(argv) != 1:
            raise ReleaseError("KEY: is missing; make release KEY=FINGERPRINT")
        if said("git", "status", "--porcelain"):
            raise ReleaseError("the tree has changes that are not committed; a release is of a commit")
        for path in make(OUT, argv[0], said("git", "log", "-1", "--format=%cI")):
            print(path.relative_to(ROOT))
    except (ReleaseError, subprocess.CalledProcessError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
