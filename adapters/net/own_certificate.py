"""A certificate of our own, for a hub that has none of an authority. Guests trust it because they pair with a code."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wakestream.adapters.disk.atomic import write_atomic

LASTS: Final = timedelta(days=3650)
"""How long it is valid: guests pin it, so a new one means to pair again."""


def make_certificate(cert: Path, key: Path, hosts: Iterable[str]) -> None:
    """Make a certificate and its key (PEM files; the key is private to this account).

    Args:
        cert: The file for the certificate.
        key: The file for its key.
        hosts: The names and IP addresses that it is for, the first one is its subject.

    Raises:
        OSError: A file cannot be written.

    Example:
        >>> make_certificate(Path("hub.pem"), Path("hub.key"), ["hub.example"])
    """
    names = list(dict.fromkeys(hosts))
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + LASTS)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomic(key, pem)
    write_atomic(cert, made.public_bytes(serialization.Encoding.PEM), mode=0o644)


def names_of(cert: Path) -> list[str]:
    """The names and IP addresses that a certificate is for; none if the file is no certificate."""
    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return []
    return [str(one.value) for one in names]


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
