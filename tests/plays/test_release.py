# SPDX-License-Identifier: GPL-3.0-or-later
"""A release made with a throw-away key: what docs/release.md lets a user check is right, and notices what somebody changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import release  # noqa: E402

WHEN = "2026-01-02T03:04:05+00:00"


def new_key(home, address):
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--homedir", str(home), "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", address, "ed25519", "sign", "1d"], check=True, capture_output=True)
    listed = subprocess.run([*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True).stdout
    subprocess.run([*gpg, "--output", str(home / "public.gpg"), "--export", address], check=True, capture_output=True)
    return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", str(folder / "keys"))
        key = new_key(folder / "keys", "release@example.org")
        new_key(folder / "others", "mallory@example.org")
        files = release.make(folder / "out", key, WHEN)
        yield folder, {path.name: path for path in files}
        for home in ("keys", "others"):
            subprocess.run(["gpgconf", "--homedir", str(folder / home), "--kill", "all"], check=False)


def galaxy(folder, *words):
    env = {**os.environ, "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_COLLECTIONS_PATH": str(folder / "installed")}
    binary = Path(sys.executable).parent / "ansible-galaxy"
    return subprocess.run([binary, "collection", *words], env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def verified(folder, files, keys="keys"):
    (signature,) = (path for name, path in files.items() if "MANIFEST" in name)
    words = ["verify", "plover.vmft", "--offline", "--keyring", str(folder / keys / "public.gpg"), "--signature", f"file://{signature}"]
    return galaxy(folder, *words)


def test_a_user_can_check_the_tarball_before_and_the_files_after(made):
    folder, files = made
    gpgv = ["gpgv", "--keyring", str(folder / "keys" / "public.gpg"), files["SHA256SUMS.asc"], files["SHA256SUMS"]]
    assert subprocess.run(gpgv, check=False, capture_output=True).returncode == 0
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder / "out", check=False).returncode == 0
    (tarball,) = (path for name, path in files.items() if name.endswith(".tar.gz"))
    done = galaxy(folder, "install", "--offline", "-p", str(folder / "installed"), str(tarball))
    assert done.returncode == 0, done.stderr
    assert verified(folder, files).returncode == 0
    done = verified(folder, files, "others")
    assert done.returncode and "fewer successful signatures than required" in done.stdout + done.stderr
    changed = folder / "installed" / "ansible_collections" / "plover" / "vmft" / "playbooks" / "status.yml"
    changed.write_text(changed.read_text() + "# changed\n")
    done = verified(folder, files)
    assert done.returncode and "playbooks/status.yml" in done.stdout + done.stderr


def test_the_bill_of_materials_has_what_the_hosts_get_and_what_was_built_with(made):
    _folder, files = made
    (path,) = (path for name, path in files.items() if name.endswith(".cdx.json"))
    bom = json.loads(path.read_text())
    (tarball,) = (path for name, path in files.items() if name.endswith(".tar.gz"))
    assert (bom["bomFormat"], bom["specVersion"], bom["metadata"]["timestamp"]) == ("CycloneDX", "1.5", WHEN)
    assert bom["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": release.digest(tarball)}]
    required = {one["name"]: one for one in bom["components"] if one["scope"] == "required"}
    assert set(required) == {"qemu-qmp", "prometheus-client", "qemu-system-x86", "qemu-utils", "python3-rich"}
    assert all(len(required[name]["hashes"][0]["content"]) == 64 for name in ("qemu-qmp", "prometheus-client"))
    assert {"ansible-core", "ruff", "uv", "pysyncobj"} <= {one["name"] for one in bom["components"] if one["scope"] == "excluded"}
    refs = [one["bom-ref"] for one in bom["components"]]
    assert len(refs) == len(set(refs)) and set(bom["dependencies"][0]["dependsOn"]) <= set(refs)


def test_without_a_whole_fingerprint_nothing_is_made(tmp_path):
    for key in ("", "release@example.org", "DEADBEEF"):
        with pytest.raises(release.ReleaseError, match="KEY: must be the whole fingerprint"):
            release.make(tmp_path / "out", key, WHEN)
    assert not (tmp_path / "out").exists()


def test_a_key_that_gpg_does_not_have_is_named(made, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(release.ReleaseError, match="KEY: gpg does not sign with A{40}"):
        release.sign(tmp_path / "file", "A" * 40)
