# SPDX-License-Identifier: GPL-3.0-or-later
"""A user who is not root builds the collection and the C library, on a machine that has Python, gcc and make and nothing else of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import build_collection

NOBODY = 65534
# No dpkg, no apt-get, no git, no ip: a build that asked for them would fail. The last three are gcc's.
PROGRAMS = "sh make gcc sha256sum cut cat mkdir mv rm touch as ld ar".split()
TIMEOUT_S = 300


@pytest.fixture
def checkout():
    """The tree as a clone has it, in a folder of that user. Not below pytest's, which is root's alone."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "plover")
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, out / name)
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield out


def run(checkout, *words):
    """As nobody, with PROGRAMS alone on the PATH; Python is /usr/bin/python3."""
    programs = checkout.parent / "bin"
    programs.mkdir(exist_ok=True)
    for name in PROGRAMS:
        if not (programs / name).exists():
            (programs / name).symlink_to(shutil.which(name))
    pip = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    as_nobody = ["/usr/bin/setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--no-new-privs"]
    done = subprocess.run(
        [*as_nobody, str(programs / "make"), *words],
        cwd=checkout,
        env={**pip, "PATH": str(programs), "HOME": str(checkout.parent), "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def checksums(tarball):
    """name -> checksum of each file that the collection has, as its own list says."""
    with tarfile.open(tarball) as tar:
        listed = json.load(tar.extractfile("FILES.json"))["files"]
    return {file["name"]: file["chksum_sha256"] for file in listed}


def test_nobody_builds_the_same_collection(checkout, tmp_path):
    run(checkout, "build")
    (theirs,) = (checkout / "build").glob("plover-vmft-*.tar.gz")
    assert theirs.stat().st_uid == NOBODY
    assert checksums(theirs) == checksums(build_collection.build(tmp_path / "ours"))
    assert (checkout / ".cache" / "collections" / "ansible_collections" / "plover" / "vmft" / "MANIFEST.json").exists()


def test_nobody_builds_a_library_that_works(checkout):
    run(checkout, "-s", "-C", "native")
    (checkout / "page").write_bytes(bytes(4096))
    theirs, ours = (subprocess.check_output([tree / "native/build/plover-hash", checkout / "page"]) for tree in (checkout, ROOT))
    assert theirs == ours and len(ours.strip()) == 16
