# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for tests and benches, like those of the deploy play: a CA of the group, and a folder for each member."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


class Authority:
    def __init__(self, cluster_id: str) -> None:
        self.cluster_id, self._key = cluster_id, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plover test CA")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = self._builder(self._name, self._key, 3650 * DAY)
        # All CAs have the same name here, so in a change of CA the key's identifier tells them apart.
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False)
        made = made.add_extension(x509.BasicConstraints(True, 0), True).add_extension(usage, True)
        self.pem = _pem(made.sign(self._key, hashes.SHA256()))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, life: datetime.timedelta) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1) + min(life, datetime.timedelta()))
            .not_valid_after(now + life)
        )

    def issue(self, *uris: str, life: datetime.timedelta = 825 * DAY) -> tuple[str, str, int]:
        """(certificate, key, serial number) with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "member")]), key, life)
        if uris:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
            made = made.add_extension(names, False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        made = made.add_extension(x509.BasicConstraints(False, None), True)
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        signed = made.sign(self._key, hashes.SHA256())
        return _pem(signed), _key_pem(key), signed.serial_number

    def give(self, folder: Path, member: str, mode: str = "", ca: str = "", **more) -> int:
        """Write the folder of ``member``; returns the serial number of its new certificate."""
        certificate, key, serial = self.issue(f"plover:{more.pop('cluster_id', self.cluster_id)}/{member}", **more)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in (("ca.pem", ca or self.pem), ("cert.pem", certificate), ("key.pem", key), ("mode", mode)):
            if text:
                put(folder / name, text)
        return serial


def put(path: Path, text: str) -> None:
    """A file for the owner only, replaced as a whole."""
    new = path.with_name(f".{path.name}")
    new.touch(0o600)
    new.write_text(text)
    new.replace(path)
