"""Real S3 stores on loopback: Ceph's radosgw (Debian packages) and s3rver (npm), both by `make s3`."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines.real_servers import ROOT, Server
from tests.support.ports import free_port

HERE = Path(__file__).parent
S3RVER = ROOT / "tests" / "peers" / "node_modules" / ".bin" / "s3rver"
SECRET = "secret-of-the-test-store"

CLOSED = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass(frozen=True)
class Store:
    """A store that runs. `putter` is a key that may only write, if it has such."""

    name: str
    url: str
    key: str
    secret: str
    putter: str = ""

    @property
    def environment(self) -> Mapping[str, str]:
        """What boto3 finds its credentials in."""
        return {**CLOSED, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    def client(self, key: str = "", secret: str = "") -> Any:
        """A client of boto3 with this key, by default the one that may do all."""
        config = import_module("botocore.config").Config(
            signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip
        return import_module("boto3").client(
            "s3", endpoint_url=self.url, region_name="us-east-1", config=config,
            aws_access_key_id=key or self.key, aws_secret_access_key=secret or self.secret,
        )  # fmt: skip


@contextmanager
def radosgw(folder: Path) -> Iterator[Store]:
    """Ceph's gateway, with all that it needs, in this folder."""
    programs = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "curl")
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.skip(f"no {missing[0]} here (make s3)")
    port = free_port()
    command = ("bash", str(HERE / "radosgw.sh"), str(folder), str(port), str(free_port()), SECRET)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"READY\n", (folder / "out.log").read_text()[-2000:]
            yield Store("radosgw", f"http://127.0.0.1:{port}", "FULL", SECRET, "PUTTER")
        finally:
            process.terminate()


@contextmanager
def s3rver(folder: Path) -> Iterator[Store]:
    """A small store of another vendor, which cannot list parts."""
    if not S3RVER.exists():
        pytest.skip("no s3rver here (make peers)")
    server = Server(folder, (), {})
    server.command = (str(S3RVER), "-d", str(folder / "data"), "-a", "127.0.0.1", "-p", str(server.port))
    (folder / "data").mkdir()
    asyncio.run(server.start())
    try:
        yield Store("s3rver", server.url, "S3RVER", "S3RVER")
    finally:
        server.kill()


STORES = {"radosgw": radosgw, "s3rver": s3rver}

only_radosgw = pytest.mark.parametrize("store", ["radosgw"], indirect=True)
"""For tests of what s3rver lacks: it checks no signature, and has neither lists of parts nor rights."""


def clock_off(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """The clock of this machine, as boto3 reads it to sign."""
    auth = import_module("botocore.auth")
    now = auth.get_current_datetime
    monkeypatch.setattr(auth, "get_current_datetime", lambda *options, **named: now(*options, **named) + by)
