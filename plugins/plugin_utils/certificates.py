# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of a group's members, read and made with C(cryptography), which ansible-core needs anyway. Pure.

A group is a VM's three members. Its certificate authority (CA) signs one certificate for each; see docs/operations.md.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from typing import Any, NamedTuple

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:  # never: ansible-core needs it. But ansible-test imports this without it
    x509 = None

EARLY = datetime.timedelta(hours=1)  # the members' clocks may be behind
AUTHORITY_DAYS = 3650
PEMS_MAX = 8
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+?-----END CERTIFICATE-----")
_MEMBER = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_CLUSTER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class Certificate(NamedTuple):
    """What counts of a certificate."""

    text: str
    serial: str
    names: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime
    parsed: Any  # an x509.Certificate

    def days_left(self, now: datetime.datetime) -> int:
        return (self.not_after - now).days

    def signed_by(self, authority: Certificate) -> bool:
        """Whether the CA's key signed this certificate."""
        try:
            authority.parsed.public_key().verify(
                self.parsed.signature, self.parsed.tbs_certificate_bytes, ec.ECDSA(self.parsed.signature_hash_algorithm)
            )
        except (InvalidSignature, AttributeError, TypeError, ValueError):
            return False
        return self.parsed.issuer == authority.parsed.subject


def uri_of(cluster_id: str, member: str) -> str:
    """The name of a member in its certificate; raises ValueError."""
    if not _CLUSTER.match(cluster_id):
        raise ValueError(f"cluster_id: {cluster_id!r} is no UUID in lower case; make one with uuidgen")
    if not fits_a_certificate(member):
        raise ValueError(f"{member!r} cannot stand in a certificate; name the host with letters, digits and ._-")
    return f"plover:{cluster_id}/{member}"


def fits_a_certificate(member: str) -> bool:
    return bool(_MEMBER.match(member))


def pems(text: str) -> list[str]:
    """The certificates in a file, each as text."""
    return [found.group(0) + "\n" for found in _PEM.finditer(text or "")][:PEMS_MAX]


def read(text: str) -> Certificate | None:
    """The first certificate in ``text``; None if there is none that can be read."""
    found = pems(text)
    if not found:
        return None
    try:
        parsed = x509.load_pem_x509_certificate(found[0].encode())
        names = _uris(parsed)
        return Certificate(found[0], serial_of(parsed), names, _utc(parsed, "not_valid_before"), _utc(parsed, "not_valid_after"), parsed)
    except ValueError:
        return None


def serial_of(parsed: Any) -> str:
    """As openssl and Python's ssl write it: upper case, an even number of digits."""
    digits = f"{parsed.serial_number:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


def _uris(parsed: Any) -> tuple[str, ...]:
    try:
        found = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(found.get_values_for_type(x509.UniformResourceIdentifier))


def _utc(parsed: Any, which: str) -> datetime.datetime:
    aware = getattr(parsed, f"{which}_utc", None)  # from cryptography 42 on
    return aware or getattr(parsed, which).replace(tzinfo=datetime.timezone.utc)


# ---- made --------------------------------------------------------------------------------------------------------
def new_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def key_text(key: Any) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def read_key(text: str) -> Any:
    """Raises ValueError."""
    try:
        return serialization.load_pem_private_key(text.encode(), None)
    except TypeError as error:
        raise ValueError("the key has a passphrase") from error


def new_authority(cluster_id: str, key: Any, now: datetime.datetime) -> str:
    """A CA's certificate, which its own key signs. CAs of one group have different names: two of them may be trusted at a time."""
    serial = x509.random_serial_number()
    name = _name(f"Plover {cluster_id} {serial & 0xFFFFFFFF:08x}")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = _builder(name, name, key.public_key(), serial, now, AUTHORITY_DAYS).add_extension(usage, critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _signed(builder, key)


def sign(request: str, uri: str, authority: Certificate, key: Any, now: datetime.datetime, days: int, hosts: tuple[str, ...] = ()) -> str:
    """A certificate for the key in ``request`` (a CSR), whose names are not taken over. ``hosts``: further names, for clients that
    know a host by its name or address. Raises ValueError."""
    asked = x509.load_pem_x509_csr(request.encode())
    public = asked.public_key()
    if not asked.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise ValueError("the request is not signed by a key of the curve P-256; run the play again")
    subject = _name(uri.rpartition("/")[2][:64])
    builder = _builder(subject, authority.parsed.subject, public, x509.random_serial_number(), now, days)
    own = authority.parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *map(_host_name, hosts)]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return _signed(builder, key)


def _host_name(text: str) -> Any:
    """An address, or a name of a host. Raises ValueError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def hosts_of(parsed: Any) -> set[str]:
    """The names and addresses of hosts in a certificate."""
    try:
        found = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


def _name(text: str) -> Any:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(**given: bool) -> Any:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})


def _builder(subject: Any, issuer: Any, public: Any, serial: int, now: datetime.datetime, days: int) -> Any:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public).serial_number(serial)
    builder = builder.not_valid_before(now - EARLY).not_valid_after(now + datetime.timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _signed(builder: Any, key: Any) -> str:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
