# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a member's encrypted links on its host, C(/etc/plover/NAME/tls). The key is made here and never leaves the host.

The daemon reads the files for each new link. So each is replaced at once, and a new key is put into place together with its
certificate.
"""

from __future__ import annotations

import os
import shutil

FOLDER = "/etc/plover/{}/tls"
KEY, NEXT_KEY, CERTIFICATE, AUTHORITIES, REVOKED, MODE = "key.pem", "key.next.pem", "cert.pem", "ca.pem", "revoked", "mode"
ONLY = "only"
FILE_BYTES_MAX = 1 << 18
GENERATE = ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
REQUEST = ("req", "-new", "-subj", "/CN=plover", "-key")


class TlsError(Exception):
    """The files cannot be made or written; says what to do."""


class TlsFiles:
    """C(openssl(words)): runs C(openssl) with these words; its exit status, output and errors."""

    def __init__(self, folder, openssl):
        self.folder, self._openssl = folder, openssl

    def read(self, name):
        """A file's text; empty if there is none."""
        try:
            with open(self._path(name), encoding="utf-8") as file:
                return file.read(FILE_BYTES_MAX)
        except FileNotFoundError:
            return ""

    def request(self, fresh):
        """A request (CSR) for this host's key. C(fresh): for a new key, which comes into force with its certificate."""
        name = NEXT_KEY if fresh or not self.read(KEY) else KEY
        if name == NEXT_KEY:
            self._write(NEXT_KEY, self._run(GENERATE, "make a key"))
        return self._run((*REQUEST, self._path(name)), "make a request")

    def wanted(self, authorities, certificate, mode, revoked):
        """Each file's text as it should be; None: no such file. Without a file C(mode), links with TLS only are taken."""
        return {
            AUTHORITIES: authorities,
            CERTIFICATE: certificate,
            REVOKED: "\n".join(revoked) + "\n" if revoked else None,
            MODE: mode + "\n" if mode != ONLY else None,
        }

    def differing(self, wanted):
        return [name for name, text in wanted.items() if self.read(name) != (text or "")]

    def write(self, wanted):
        """What is trusted first, then the certificate with its key, then what is refused."""
        for name in (AUTHORITIES, CERTIFICATE, REVOKED, MODE):
            if self.read(name) == (wanted[name] or ""):
                continue
            if wanted[name] is None:
                os.unlink(self._path(name))
            elif name == CERTIFICATE:
                self._write_certificate(wanted[name])
            else:
                self._write(name, wanted[name])

    def _write_certificate(self, text):
        self._write(CERTIFICATE + ".new", text)
        try:
            public = self._run(("x509", "-noout", "-pubkey", "-in", self._path(CERTIFICATE + ".new")), "read the new certificate")
            if public == self._public(KEY):
                os.rename(self._path(CERTIFICATE + ".new"), self._path(CERTIFICATE))
            elif public == self._public(NEXT_KEY):
                os.rename(self._path(NEXT_KEY), self._path(KEY))
                os.rename(self._path(CERTIFICATE + ".new"), self._path(CERTIFICATE))
            else:
                raise TlsError(f"{self.folder}: the new certificate fits no key of this host; run the play again")
        finally:
            if os.path.exists(self._path(CERTIFICATE + ".new")):
                os.unlink(self._path(CERTIFICATE + ".new"))

    def _public(self, name):
        return self._run(("pkey", "-pubout", "-in", self._path(name)), f"read {name}") if self.read(name) else ""

    def remove(self):
        """The folder, and the VM's folder if nothing else is in it."""
        if os.path.lexists(self.folder):
            shutil.rmtree(self.folder)
        above = os.path.dirname(self.folder)
        if os.path.isdir(above) and not os.listdir(above):
            os.rmdir(above)

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _run(self, words, what):
        code, out, err = self._openssl(list(words))
        if code:
            raise TlsError(f"openssl could not {what}: {' '.join((err or out).split())[:300]}; install or mend the package openssl")
        return out

    def _write(self, name, text):
        """Readable by the folder's owner only, root or the witness's user; on disk before it is in place."""
        os.makedirs(os.path.dirname(self.folder), mode=0o700, exist_ok=True)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        os.chmod(self.folder, 0o700)
        beside = self._path("." + name)
        if os.path.lexists(beside):
            os.unlink(beside)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            owner = os.stat(self.folder)
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, self._path(name))
