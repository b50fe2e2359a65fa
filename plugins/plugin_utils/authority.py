# SPDX-License-Identifier: GPL-3.0-or-later
"""A group's certificate authority (CA) in its folder on the control machine.

C(ca.key) (0600) never leaves it. C(ca.pem) is the CA's certificate. C(issued.json) lists what it signed, so that the certificate
of a host that is gone can be revoked. If the folder is lost, the next certificate comes from a new CA, which replaces the old one.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

from . import certificates
from .certificates import Certificate

FILE_BYTES_MAX = 1 << 20
KEY, CERTIFICATE, ISSUED = "ca.key", "ca.pem", "issued.json"


class Authority:
    """C(folder): that of the group. Nothing is written before :meth:`save`."""

    def __init__(self, folder: Path, certificate: Certificate, key: Any, issued: dict[str, dict[str, str]]) -> None:
        self.folder, self.certificate, self.issued = folder, certificate, issued
        self._key = key

    @classmethod
    def load(cls, folder: Path) -> Authority | None:
        """The CA in ``folder``; None if there is none. Raises ValueError if it cannot be used."""
        if not (folder / KEY).exists() and not (folder / CERTIFICATE).exists():
            return None
        try:
            certificate = certificates.read(_text(folder / CERTIFICATE))
            key = certificates.read_key(_text(folder / KEY))
            issued = json.loads(_text(folder / ISSUED)) if (folder / ISSUED).exists() else {}
            if certificate is None or not certificate.signed_by(certificate):
                raise ValueError(f"{CERTIFICATE} is no CA's certificate")
            if key.public_key().public_numbers() != certificate.parsed.public_key().public_numbers():
                raise ValueError(f"{KEY} is not the key of {CERTIFICATE}")
            if not isinstance(issued, dict) or not all(isinstance(one, dict) for one in issued.values()):
                raise ValueError(f"{ISSUED} is damaged")
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(
                f"secrets_ca_dir: the CA in {folder} cannot be used ({error}); restore that folder, or move it away: "
                "then the play makes a new CA and new certificates"
            ) from error
        return cls(folder, certificate, key, issued)

    @classmethod
    def make(cls, folder: Path, cluster_id: str, now: datetime.datetime) -> Authority:
        key = certificates.new_key()
        certificate = certificates.read(certificates.new_authority(cluster_id, key, now))
        if certificate is None:
            raise ValueError("the new CA's certificate cannot be read")
        return cls(folder, certificate, key, {})

    def sign(self, request: str, uri: str, now: datetime.datetime, days: int, hosts: tuple[str, ...] = ()) -> Certificate:
        out = certificates.read(certificates.sign(request, uri, self.certificate, self._key, now, days, hosts))
        if out is None:
            raise ValueError("the new certificate cannot be read")
        self.issued = {serial: one for serial, one in self.issued.items() if one.get("until", "") >= f"{now:%Y-%m-%d}"}
        self.issued[out.serial] = {"name": uri, "until": f"{out.not_after:%Y-%m-%d}"}
        return out

    def revoke(self, serials: set[str]) -> None:
        """Recorded, so that a rotation that was broken off before the members heard of it is completed by the next run."""
        for serial in serials & set(self.issued):
            self.issued[serial]["revoked"] = "yes"

    def revoked(self) -> set[str]:
        return {serial for serial, one in self.issued.items() if one.get("revoked")}

    def serials_of(self, uri: str) -> set[str]:
        """Serial numbers of the certificates that this member got from this CA."""
        return {serial for serial, one in self.issued.items() if one.get("name") == uri}

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        # The key first: a certificate without its key would be damaged.
        _write(self.folder / KEY, certificates.key_text(self._key))
        _write(self.folder / CERTIFICATE, self.certificate.text)
        _write(self.folder / ISSUED, json.dumps(self.issued, indent=1, sort_keys=True) + "\n")


def remove(folder: Path) -> bool:
    """Remove the CA's files, and its folder if nothing else is in it."""
    found = [path for path in (folder / KEY, folder / CERTIFICATE, folder / ISSUED) if path.exists()]
    for path in found:
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return bool(found)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX).decode()


def _write(path: Path, text: str) -> None:
    """Replaced at once, and never readable by others."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
