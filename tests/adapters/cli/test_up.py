"""What `up` says when one of its programs has ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from wakestream.adapters.cli.commands import up
from wakestream.adapters.cli.demo.processes import DemoBroken
from wakestream.adapters.cli.service import Stop


async def test_each_last_line_of_a_program_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    stop = Stop()

    @asynccontextmanager
    async def broken() -> AsyncIterator[asyncio.Future[None]]:
        stop.set()
        raise DemoBroken("the hub has ended (signal 9); its last lines:\n  one\n  two")
        yield

    assert await up._keep_up(broken, stop) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == ["wakestream: the hub has ended (signal 9); its last lines:", "  one", "  two"]
