"""The certificates that a hub signs for its workers: trusted by those who trust the hub, and for one address only."""

import ssl
from pathlib import Path

import pytest

from wakestream.adapters.net.certificates import can_sign, make_certificate, make_request, sign


@pytest.fixture
def hub(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "hub.pem", tmp_path / "hub.key"
    make_certificate(cert, key, ["192.0.2.1", "localhost", "127.0.0.1"])
    return cert, key


@pytest.mark.parametrize("strict", [0, ssl.VERIFY_X509_STRICT], ids=["", "as Python 3.13 does"])
def test_who_trusts_the_hub_trusts_the_worker(tmp_path: Path, hub: tuple[Path, Path], strict: int) -> None:
    private, request = make_request("192.0.2.7")
    cert, key = tmp_path / "worker.pem", tmp_path / "worker.key"
    cert.write_text(sign(request, *hub, "192.0.2.7"))
    key.write_text(private)
    assert (can_sign(hub[0]), can_sign(cert), can_sign(key)) == (True, False, False)
    for name, trusted in (("192.0.2.7", True), ("192.0.2.8", False)):
        assert shakes_hands(cert, key, hub[0], name, strict) == trusted


def shakes_hands(cert: Path, key: Path, ca: Path, name: str, strict: int) -> bool:
    """Whether a client that trusts `ca` accepts this server under that name."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=ca)
    server.load_cert_chain(cert, key)
    client.verify_flags |= strict
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for side in sides * 3:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("192.0.2.8", "192.0.2.7"),
        ("192.0.2.1", "192.0.2.1"),
        ("worker.invalid", "192.0.2.7"),
        ("localhost", "192.0.2.7"),
    ],
    ids=["another machine", "the hub's own address", "no address", "a name of the hub"],
)
def test_a_worker_gets_no_certificate_for_another_machine(hub: tuple[Path, Path], name: str, seen: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not the address {seen} of this machine; give --public-url"):
        sign(make_request(name)[1], *hub, seen)


@pytest.mark.parametrize("request_", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----"])
def test_what_is_no_request_is_refused(hub: tuple[Path, Path], request_: str) -> None:
    with pytest.raises(ValueError, match="the request for a certificate is not valid"):
        sign(request_, *hub, "127.0.0.1")
