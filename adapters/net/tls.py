"""TLS: certificates of our servers, with renewal while they run, and verification by our clients."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from loguru import logger

from wakestream.adapters.config.addresses import is_loopback
from wakestream.adapters.config.setting_files import SettingsError

LOOK_EVERY = 60.0
"""Seconds between two checks for a renewed certificate."""

WARN_BEFORE = timedelta(days=14)
"""Time before the end of a certificate from which on there is a warning."""

PLAIN = "write http:// or ws:// in its address, or enable TLS there"

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's reasons when a peer answers without TLS."""

_Stamp = tuple[tuple[int, int, int], ...]


class ServerTls:
    """A server's certificate. `context` is for the listening socket; new connections use the latest certificate."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self.context = _server_context()
        self._seen: _Stamp | None = None
        self._fault = ""
        self._der = b""
        self._load()

    @property
    def certificate(self) -> bytes:
        """The certificate in DER, as new connections get it; a file that was replaced counts from `refresh` on."""
        return self._der

    @property
    def can_sign(self) -> bool:
        """Whether it is a certificate of our own, which can sign those of workers."""
        from wakestream.adapters.net.certificates import can_sign

        return can_sign(self._cert)

    def sign(self, request: str, address: str) -> str:
        """Sign the request of a worker at this address; raises `ValueError` if that is not possible."""
        from wakestream.adapters.net.certificates import sign

        try:
            return sign(request, self._cert, self._key, address)
        except OSError as error:
            raise ValueError(f"the hub cannot sign certificates: {error.strerror or error}") from None

    @property
    def names(self) -> list[str]:
        """The names and IP addresses that it is for; none if it cannot be read."""
        from wakestream.adapters.net.certificates import names_of

        try:
            return names_of(self._cert)
        except OSError:
            return []

    def refresh(self) -> bool:
        """Read the files again if they changed; True when the new certificate is in use.

        When the files are unusable, the former certificate stays in use and the error is logged once.
        """
        try:
            if self._stamp() == self._seen:
                return False
            self._load()
        except (SettingsError, OSError) as error:
            if str(error) != self._fault:
                logger.error("{}; the former certificate stays in use", error)
            self._fault = str(error)
            return False
        self._fault = ""
        logger.info("the certificate was renewed; new connections get it")
        return True

    async def watch(self, every: float = LOOK_EVERY) -> None:
        """Call `refresh` periodically until cancelled."""
        while True:
            await asyncio.sleep(every)
            self.refresh()

    def _load(self) -> None:
        stamp = self._stamp()
        _load_chain(_server_context(), self._cert, self._key)  # a test, so that wrong files do not change self.context
        _check_dates(self._cert)
        der = ssl.PEM_cert_to_DER_cert(_first(self._cert.read_text(encoding="ascii", errors="replace")))
        _load_chain(self.context, self._cert, self._key)
        self._seen, self._der = stamp, der

    def _stamp(self) -> _Stamp:
        return tuple(_stat(path, flag) for path, flag in ((self._cert, "--tls-cert"), (self._key, "--tls-key")))


def _first(pem: str) -> str:
    """The first certificate of a chain in PEM."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return f"{begin}{pem.partition(begin)[2].partition(end)[0]}{end}\n"


def server_tls(cert: Path | None, key: Path | None) -> ServerTls | None:
    """The server's TLS, None when it is not set. Raises `SettingsError` for unusable files."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, lacks = ("--tls-cert", "--tls-key") if key is None else ("--tls-key", "--tls-cert")
        raise SettingsError(f"{given} also needs {lacks}: give the certificate and its key")
    return ServerTls(cert, key)


def client_context(ca: Path | None) -> ssl.SSLContext | None:
    """A context that trusts `ca` in addition to the system's authorities; None for the libraries' defaults.

    The host name is always verified. Raises `SettingsError` for an unusable file.
    """
    if ca is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError:
        raise SettingsError(
            f"--ca: {ca} contains no certificate in PEM format; give the authority's certificate"
        ) from None
    except OSError as error:
        raise SettingsError(f"--ca: {ca} cannot be read ({error.strerror or error})") from None
    return context


def warn_unless_private(host: str, tls: ServerTls | None) -> None:
    """Log a warning when a server listens on the network without TLS."""
    if tls is None and not is_loopback(host):
        logger.warning(
            "listening on {} without TLS: others on the network can read keys, secrets and files. Give --tls-cert and "
            "--tls-key, or put a reverse proxy with TLS in front and close this port to all others",
            host,
        )


def explained(error: BaseException) -> str | None:
    """What a failed TLS handshake means and what to do; None for other errors."""
    cause: BaseException | None = error
    while cause is not None and type(cause).__module__ != "ssl":  # aiohttp's subclasses lack its attributes
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = cause.verify_message
        if cause.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return f"its certificate is for another name ({said}); use that name, or get another certificate"
        if cause.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
            return "its certificate has expired; renew it there, or set this machine's clock right"
        if cause.verify_code == 9:  # X509_V_ERR_CERT_NOT_YET_VALID
            return "its certificate is not valid yet; set the clocks right"
        return f"its certificate is not trusted ({said}); give its authority with --ca FILE (WAKESTREAM_CA)"
    if not isinstance(cause, ssl.SSLError):
        return None
    if cause.reason in _NO_TLS:
        return f"it does not speak TLS; {PLAIN}"
    if isinstance(cause, ssl.SSLEOFError):
        return hung_up()
    return f"the TLS handshake failed ({cause.reason or cause})"


def hung_up() -> str:
    """For a peer that closed the connection during the handshake."""
    return f"it closed the connection in the TLS handshake; if it does not speak TLS, {PLAIN}"


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _load_chain(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise SettingsError(_misfit(error, cert, key)) from None
    except OSError as error:
        raise SettingsError(f"--tls-cert, --tls-key: {cert} or {key} cannot be read ({error.strerror})") from None


def _no_password() -> bytes:
    # Without this OpenSSL asks for a password in the terminal, and a service hangs.
    return b""


def _misfit(error: ssl.SSLError, cert: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"--tls-key: the key in {key} does not belong to the certificate in {cert}; give the matching pair"
    if b"ENCRYPTED" in key.read_bytes():
        return f"--tls-key: the key in {key} is encrypted; decrypt it (openssl pkey -in {key} -out FILE), mode 600"
    return f"--tls-cert, --tls-key: {cert} must contain the certificate and {key} its key, both in PEM format"


def _check_dates(cert: Path) -> None:
    from wakestream.adapters.net.certificates import end_of

    ends = end_of(cert)
    if ends is None:
        return  # OpenSSL has accepted it
    if ends < datetime.now(UTC):
        raise SettingsError(f"--tls-cert: the certificate in {cert} expired on {ends:%Y-%m-%d}; renew it")
    if ends - datetime.now(UTC) < WARN_BEFORE:
        logger.warning("the certificate in {} ends on {:%Y-%m-%d}; renew it", cert, ends)


def _stat(path: Path, flag: str) -> tuple[int, int, int]:
    try:
        status = path.stat()
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise SettingsError(f"{flag}: {path} cannot be read ({error.strerror or error})") from None
    return status.st_mtime_ns, status.st_size, status.st_ino
