"""A system that gives a program few open files at first, as macOS does (256): it takes what it may have."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE

import pytest

from tests.support.programs.client_scene import User, clean_environment
from wakestream.adapters.net.silent_callers import MOST
from wakestream.adapters.runtime.rlimits import SPARE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="another process's limits are seen on Linux")

PROGRAMS = {
    "worker": ("worker", "--listen", "127.0.0.1:0", "--state", "worker"),
    "daemon": ("daemon", "--hub", "http://127.0.0.1:9", "--state", "daemon"),
}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_every_allowed_connection_has_room_for_an_open_file(name: str, user: User) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 2 * MOST + SPARE if hard == resource.RLIM_INFINITY else min(hard, 2 * MOST + SPARE)
    few = ("/bin/sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh", sys.executable, "-m", "wakestream.adapters.cli")
    secrets = {"HEYGEM_API_SECRET": "swordfish-0123456789", "WAKESTREAM_KEY": "k" * 20}
    process = await asyncio.create_subprocess_exec(
        *few, *PROGRAMS[name], stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, cwd=user.folder,
        env=clean_environment() | secrets,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert b"listening on" in await process.stdout.readline()
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (wanted, hard)
    finally:
        process.kill()
        await process.wait()
