"""A certificate of our own, for a hub that has none of an authority, and those that it signs for its workers.

Guests trust the hub's because they pair with a code, and so each that it signs. Only this module imports
`cryptography.x509`, which takes 20 ms: programs without a certificate of their own do not wait for it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
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
    until = datetime.now(UTC) + LASTS
    made = (
        _begun(_subject(names[0]), private.public_key(), names, until)
        .issuer_name(_subject(names[0]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(private, hashes.SHA256())
    )
    write_atomic(key, _pem(private).encode())
    write_atomic(cert, made.public_bytes(serialization.Encoding.PEM), mode=0o644)


def make_request(host: str) -> tuple[str, str]:
    """A new key and the request for its certificate, for `sign`, both in PEM.

    Example:
        >>> key, request = make_request("192.0.2.7")
    """
    private = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(host))
        .add_extension(x509.SubjectAlternativeName([_name(host)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    return _pem(private), request.public_bytes(serialization.Encoding.PEM).decode()


def can_sign(cert: Path) -> bool:
    """Whether it can sign others: one of our own, but of version 0.1.0."""
    try:
        extensions = x509.load_pem_x509_certificate(cert.read_bytes()).extensions
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False


def sign(request: str, cert: Path, key: Path, address: str) -> str:
    """Sign the request of a worker. It is trusted less than the hub, so its certificate is for its own address only.

    Args:
        request: The request (PEM).
        cert: A certificate of our own.
        key: Its key.
        address: The IP address of the worker, as it is seen here.

    Returns:
        The certificate (PEM), valid as long as `cert`.

    Raises:
        ValueError: It is no request, or the request is for another machine.
        OSError: A file cannot be read.

    Example:
        >>> sign(request, Path("hub.pem"), Path("hub.key"), "192.0.2.7")
        '-----BEGIN CERTIFICATE-----...'
    """
    asked, name = _read(request)
    issuer = x509.load_pem_x509_certificate(cert.read_bytes())
    private: Any = serialization.load_pem_private_key(key.read_bytes(), None)
    local = ipaddress.ip_address(address).is_loopback
    if not _is_at(name, address) or (not local and name in _names(issuer.extensions)):
        raise ValueError(f"{name} is not the address {address} of this machine; give --public-url with that address")
    subject = _subject(f"worker {name}")  # another name than the issuer's, also at the same address
    made = _begun(subject, asked.public_key(), [name], issuer.not_valid_after_utc).issuer_name(issuer.subject)
    made = made.add_extension(_usage(signs=False), critical=True).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key()), critical=False
    )
    return made.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _read(request: str) -> tuple[x509.CertificateSigningRequest, str]:
    """A request and the one name that it is for."""
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        [name] = _names(asked.extensions)
        if asked.is_signature_valid:
            return asked, name
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm):
        pass
    raise ValueError("the request for a certificate is not valid")


def _is_at(name: str, address: str) -> bool:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(name, None)}
    except OSError:
        return False
    return address in addresses


def _usage(*, signs: bool) -> x509.KeyUsage:
    others = "content_commitment key_encipherment data_encipherment key_agreement crl_sign encipher_only decipher_only"
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, **dict.fromkeys(others.split(), False))


def _subject(host: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])


def _begun(subject: x509.Name, public: Any, names: Iterable[str], until: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))  # clocks differ
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )


def _pem(private: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return private.private_bytes(*form).decode()


def end_of(cert: Path) -> datetime | None:
    """When a certificate ends; None if the file is no certificate."""
    try:
        return x509.load_pem_x509_certificates(cert.read_bytes())[0].not_valid_after_utc
    except (ValueError, IndexError, OSError):
        return None


def names_of(cert: Path) -> list[str]:
    """The names and IP addresses that a certificate is for; none if the file is no certificate."""
    try:
        return _names(x509.load_pem_x509_certificate(cert.read_bytes()).extensions)
    except (ValueError, x509.ExtensionNotFound):
        return []


def _names(extensions: x509.Extensions) -> list[str]:
    return [str(name.value) for name in extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
