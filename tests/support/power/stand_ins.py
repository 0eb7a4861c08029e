"""Programs of others that stand in for clouds and servers, on loopback (`make clouds`): moto, sushy-emulator."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines.real_servers import ROOT, Server

BIN = ROOT / ".venv" / "clouds" / "bin"


def needs_clouds() -> pytest.MarkDecorator:
    """Skips the tests of a file where the stand-ins are not installed."""
    here = BIN.parent.joinpath(".ready").exists()
    return pytest.mark.skipif(not here, reason="no moto and sushy-emulator here (make clouds)")


@contextmanager
def moto() -> Iterator[str]:
    """A server with the API of AWS, at which any key is good; several tests share it, each with an instance of its own.

    Yields:
        Its address.
    """
    code = (
        "import sys; from moto.server import ThreadedMotoServer as Moto; "
        "s = Moto(ip_address='127.0.0.1', port=0); s.start(); "
        "print('at', *s.get_host_and_port(), flush=True); sys.stdin.read()"
    )
    command = (str(BIN / "python"), "-c", code)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.match(rb"at (\S+) (\d+)", line):
                    yield f"http://{found[1].decode()}:{int(found[2])}"
                    return
            raise AssertionError("moto ended before it listened")
        finally:
            process.send_signal(signal.SIGKILL)


def sushy(folder: Path, systems: Sequence[dict[str, Any]], *more: str, auth: Path | None = None) -> Server:
    """A management controller with these systems, whose power changes 1 to 11 s after a reset was asked for.

    Args:
        folder: An empty folder.
        systems: Each with `uuid`, `name`, `power_state` and `nics`.
        more: Arguments of sushy-emulator.
        auth: A file of accounts, as Apache's htpasswd writes it.
    """
    server = Server(folder, (), {})
    config = folder / "sushy.conf"
    config.write_text(
        f"SUSHY_EMULATOR_STATE_DIR = {str(folder)!r}\n"
        f"SUSHY_EMULATOR_FAKE_SYSTEMS = {list(systems)!r}\n"
        f"SUSHY_EMULATOR_AUTH_FILE = {str(auth) if auth else None!r}\n"
    )
    at = ("-i", "127.0.0.1", "-p", str(server.port))
    server.command = (str(BIN / "sushy-emulator"), "--fake", *at, "--config", str(config), *more)
    return server
