# SPDX-License-Identifier: GPL-3.0-or-later
"""Role packages: which mirrors it refuses, and that apt takes nothing unsigned from the others. With the real apt and gpg."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
import yaml

from tools.build_collection import ROOT

HTTP, HTTPS = "http://mirror.example/plover", "https://mirror.example/plover"
KEY = "/etc/apt/keyrings/plover.asc"
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.include_role": {"name": "plover.vmft.packages", "tasks_from": "refuse", "public": True}},
            {"ansible.builtin.copy": {"content": "{{ packages_mirror_lines | to_json }}", "dest": "{{ answer }}"}},
        ],
    }
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The collection where Ansible finds it, and a key and a mirror that it has signed."""
    out = tmp_path_factory.mktemp("mirror")
    (out / "ansible_collections" / "plover").mkdir(parents=True)
    (out / "ansible_collections" / "plover" / "vmft").symlink_to(ROOT)
    (out / "play.yml").write_text(yaml.safe_dump(PLAY))
    home = out / "gnupg"
    home.mkdir(mode=0o700)

    def gpg(*words):
        subprocess.run(["gpg", "--batch", "--homedir", str(home), "--pinentry-mode", "loopback", *words], check=True, capture_output=True)

    gpg("--passphrase", "", "--quick-generate-key", "mirror@example.org", "ed25519", "sign", "1d")
    gpg("--armor", "--output", str(out / "mirror.asc"), "--export", "mirror@example.org")
    for name in ("signed", "unsigned"):
        (out / name).mkdir()
        (out / name / "Packages").write_text("")
        digest, size = hashlib.sha256(b"").hexdigest(), 0
        (out / name / "Release").write_text(f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {digest} {size} Packages\n")
    gpg("--clearsign", "--output", str(out / "signed" / "InRelease"), str(out / "signed" / "Release"))
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    yield out
    shutil.rmtree(home, ignore_errors=True)


def lines(folder, **variables):
    """The lines of sources.list for these variables, or what the role says against them."""
    answer = folder / "answer"
    answer.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", "play.yml", "-e", json.dumps(variables)]
        + ["-e", f"answer={answer}", "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=folder,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder), "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return json.loads(answer.read_text()) if done.returncode == 0 else done.stdout


@pytest.mark.parametrize(
    "mirror", [HTTP, f"deb [trusted=yes] {HTTP} ./", "deb [arch=amd64 allow-insecure=yes] ftp://m.example bookworm main"]
)
def test_what_anybody_on_the_way_could_replace_is_refused(folder, mirror):
    said = lines(folder, plover_package_mirror=mirror)
    assert "is neither signed nor reached by https" in said and "plover_package_mirror_key, or use https" in said


def test_a_signed_mirror_is_bound_to_its_key_and_https_or_a_key_of_the_host_is_enough(folder):
    key = str(folder / "mirror.asc")
    assert lines(folder, plover_package_mirror=HTTP, plover_package_mirror_key=key) == [f"deb [signed-by={KEY}] {HTTP} ./"]
    given = {"plover_package_mirror": f"deb [arch=amd64] {HTTP} bookworm main", "plover_package_mirror_key": key}
    assert lines(folder, **given) == [f"deb [signed-by={KEY} arch=amd64] {HTTP} bookworm main"]
    assert lines(folder, plover_package_mirror=HTTPS) == [f"deb [trusted=yes] {HTTPS} ./"]
    assert lines(folder, plover_package_mirror="file:/srv/apt") == ["deb [trusted=yes] file:/srv/apt ./"]
    line = f"deb {HTTP} bookworm main"
    assert lines(folder, plover_package_mirror=line) == [line], "apt checks it against the keys of the host"


@pytest.mark.parametrize("key", ["/nowhere/mirror.asc", "/etc/hostname"])
def test_a_key_that_is_none_is_refused(folder, key):
    said = lines(folder, plover_package_mirror=HTTP, plover_package_mirror_key=key)
    assert f"plover_package_mirror_key: {key} must be a public key on this machine" in said


@pytest.fixture
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.parametrize(("mirror", "taken"), [("signed", True), ("unsigned", False)])
def test_apt_takes_what_the_key_has_signed_and_nothing_else(folder, served, tmp_path, mirror, taken):
    line = lines(folder, plover_package_mirror=f"{served}/{mirror}", plover_package_mirror_key=str(folder / "mirror.asc"))[0]
    (tmp_path / "plover.list").write_text(line.replace(KEY, str(folder / "mirror.asc")) + "\n")
    (tmp_path / "partial").mkdir()
    options = [f"Dir::Etc::sourcelist={tmp_path}/plover.list", "Dir::Etc::sourceparts=-", f"Dir::State::lists={tmp_path}"]
    options += ["APT::Update::Error-Mode=any", "APT::Sandbox::User=root", f"Dir::Cache={tmp_path}", "Acquire::http::Proxy=DIRECT"]
    done = subprocess.run(
        ["apt-get", "-q", "update", *(word for option in options for word in ("-o", option))], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == taken, done.stdout + done.stderr
    assert taken or "is not signed" in done.stderr
