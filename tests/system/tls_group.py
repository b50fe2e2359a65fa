# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts of one VM as three folders: role secrets' own script, modules and planner work on them, and real TLS handshakes say
who could reach whom.

Processes and handshakes cost far more than all else here. So what ends in the same way with the same files is done once.
"""

from __future__ import annotations

import datetime
import shutil
import ssl
import subprocess
from pathlib import Path

from ansible_collections.plover.vmft.plugins.module_utils._ansible.tls_files import TlsFiles
from ansible_collections.plover.vmft.plugins.plugin_utils import link_files
from ansible_collections.plover.vmft.plugins.plugin_utils.authority import Authority

from lab.paths import ROOT

LOOK = ROOT / "roles" / "secrets" / "files" / "look.sh"
CLUSTER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
VM = {"name": "demo", "cluster_id": CLUSTER, "primary": "a", "secondary": "b", "witness": "c"}
SHAKEN: dict[tuple[str, ...], list[dict]] = {}  # files of both sides -> how their handshake ends
LOOKED: dict[tuple, str] = {}  # files of a host -> what look.sh prints
SAID: dict[tuple[str, ...], tuple[int, str, str]] = {}  # openssl's words, a file's text -> its answer
NOW = datetime.datetime.now(datetime.timezone.utc)


def openssl(words):
    """The last word is a file's path, but for a new key."""
    if words[0] == "genpkey":
        return _openssl(words)
    path = Path(words[-1])
    key = (*words[:-1], path.read_text())
    if key not in SAID:
        SAID[key] = _openssl(words)
    return SAID[key]


def _openssl(words):
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return "folder" if path.is_dir() else path.read_text()


class Host:
    """C(runs): what the daemon says of C(link_security); empty: it knows no TLS; None: no daemon, nothing is deployed."""

    def __init__(self, folder: Path, runs: str | None = None) -> None:
        self.folder, self.runs = folder, runs
        (folder / "bin").mkdir(parents=True)
        self.files = TlsFiles(str(folder / "demo" / "tls"), openssl)

    @property
    def tls(self) -> Path:
        return self.folder / "demo" / "tls"

    def look(self) -> str:
        if self.runs is not None:
            (self.folder / "demo.json").write_text("{}")
            said = f'{{"link_security": "{self.runs}"}}' if self.runs else "{}"
            (self.folder / "bin" / "ploverctl").write_text(f"#!/bin/sh\necho '{said}'\n")
            (self.folder / "bin" / "ploverctl").chmod(0o755)
        key = tuple((str(path.relative_to(self.folder)), content(path)) for path in sorted(self.folder.rglob("*")))
        if key not in LOOKED:
            script = LOOK.read_text().replace("/etc/plover", str(self.folder))
            path = f"{self.folder / 'bin'}:/usr/bin:/bin"
            words = ["sh", "-c", script, "look.sh", "demo"]
            LOOKED[key] = subprocess.run(words, capture_output=True, text=True, check=True, env={"PATH": path}).stdout
        return LOOKED[key]

    def mode(self) -> str:
        return (self.tls / "mode").read_text().strip() if (self.tls / "mode").exists() else "only"

    def shown(self) -> tuple[str, ...]:
        return tuple((self.tls / name).read_text() for name in ("ca.pem", "cert.pem", "key.pem"))

    def context(self, purpose: int) -> ssl.SSLContext:
        context = ssl.SSLContext(purpose)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(self.tls / "ca.pem"))
        context.load_cert_chain(str(self.tls / "cert.pem"), str(self.tls / "key.pem"))
        return context

    def refuses(self, peer: dict) -> bool:
        text = (self.tls / "revoked").read_text() if (self.tls / "revoked").exists() else ""
        return peer["serialNumber"] in text.split()


def shake(dialler: Host, listener: Host) -> tuple[str, ...]:
    """The name that each side sees of the other. Raises ssl.SSLError."""
    key = dialler.shown() + listener.shown()
    if key not in SHAKEN:
        SHAKEN[key] = handshake(dialler, listener)
    for owner, peer in zip((dialler, listener), SHAKEN[key], strict=True):
        if owner.refuses(peer):
            raise ssl.SSLError("revoked")
    return tuple(peer["subjectAltName"][0][1] for peer in SHAKEN[key])


def handshake(dialler: Host, listener: Host) -> list[dict]:
    """In memory: the certificate that each side sees of the other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = dialler.context(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(back, there)
    two = listener.context(ssl.PROTOCOL_TLS_SERVER).wrap_bio(there, back, server_side=True)
    left = [one, two]
    for _step in range(10):
        for side in list(left):
            try:
                side.do_handshake()
                left.remove(side)
            except ssl.SSLWantReadError:
                pass
    return [side.getpeercert() for side in (one, two)]


def reaches(dialler: Host, listener: Host) -> bool:
    """Whether a new link comes into being, as the members' daemons do it."""
    if dialler.runs != "tls" or dialler.mode() == "accept":
        return listener.runs != "tls" or listener.mode() != "only"
    if listener.runs != "tls":
        return False
    try:
        shake(dialler, listener)
    except (ssl.SSLError, OSError):
        return False
    return True


class Group:
    """Does what the tasks of role secrets do, one host after the other; C(check) is called after each single step."""

    def __init__(self, folder: Path, runs: str | None = None) -> None:
        self.authority = folder / "ca"
        self.hosts = {name: Host(folder / name, runs) for name in "abc"}
        self.reasons: dict[str, tuple[str, str]] = {}

    @classmethod
    def copy(cls, folder: Path, of: Path, runs: str) -> Group:
        """The same as the group in the folder C(of)."""
        made = cls(folder, runs)
        shutil.copytree(of, folder, dirs_exist_ok=True)
        return made

    def linked(self) -> bool:
        return all(reaches(one, two) for one in self.hosts.values() for two in self.hosts.values() if one is not two)

    def plan(self, vm, wanted) -> link_files.Group:
        looks = {name: host.look() for name, host in self.hosts.items()}
        own = Authority.load(self.authority)
        return link_files.Group(vm, {name: link_files.looked(text) for name, text in looks.items()}, own, wanted)

    def play(self, check=lambda: None, order="abc", now=NOW, days=825, renew_days=90, stop_after=99, **more) -> int:
        """How many files changed."""
        vm = {**VM, **more.pop("vm", {})}
        wanted = link_files.Wanted(now, days, renew_days, **{key: frozenset(value) for key, value in more.items()})
        group = self.plan(vm, wanted)
        self.reasons = group.needs()
        requests = {member: self.hosts[member].files.request(key == "new") for member, (key, _why) in self.reasons.items()}
        check()
        rounds = group.rounds(requests, lambda: Authority.make(self.authority, CLUSTER, now))
        if self.reasons:
            group.own.save()
        differs, count = link_files.changes(rounds, group.found), 0
        for at in range(min(3, stop_after)):
            for name in order:
                wrote = self._write(self.hosts[name].files, rounds[name][at]) if differs[name] else 0
                count += wrote
                if wrote:
                    check()
        return count

    @staticmethod
    def _write(files: TlsFiles, texts: dict) -> int:
        if not texts:
            files.remove()
            return 1
        wanted = files.wanted(texts["authorities"], texts["certificate"], texts["mode"], texts["revoked"])
        count = len(files.differing(wanted))
        files.write(wanted)
        return count
