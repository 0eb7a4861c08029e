"""Certificates made for one test, by an authority that exists nowhere else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


class Authority:
    """An authority with its own certificate at `path`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.pem"
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(self.path)

    def issue(self, name: str = "server", *hosts: str, days: int = 90) -> tuple[Path, Path]:
        """A certificate and its key, for loopback unless told; with negative `days` it has ended."""
        now = datetime.now(UTC)
        made = self._ca.issue_cert(
            *(hosts or ("127.0.0.1", "localhost")),
            not_before=now - timedelta(days=400),
            not_after=now + timedelta(days=days),
        )
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return cert, key
