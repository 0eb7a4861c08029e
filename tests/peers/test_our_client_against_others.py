"""Our client uploads to another project's tus server (@tus/server), in one go and with a break in the middle."""

import asyncio
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from blake3 import blake3

from tests.support.programs.our_peers import until
from wakestream.adapters.client.upload import Meter, tus_upload
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.operators.model.errors import WorkerUnreachable
from wakestream.operators.model.events import FileRef, Fingerprint

HERE = Path(__file__).parent
NODE = shutil.which("node")
SIZE = 96 * 1024 * 1024
pytestmark = pytest.mark.skipif(
    NODE is None or not (HERE / "node_modules").is_dir(), reason="node or its packages are missing: make peers"
)


class NodeServer:
    """@tus/server with its folder; killed and started again it has the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._process: Process | None = None
        folder.mkdir()

    async def start(self) -> None:
        assert NODE is not None
        port = self.url.rpartition(":")[2] or "0"
        argv = (NODE, str(HERE / "server.js"), str(self.folder), port)
        self._process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)
        assert self._process.stdout is not None
        self.url = (await self._process.stdout.readline()).decode().strip()

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def sizes(self) -> list[int]:
        """Of its uploads, those that have come in part or whole."""
        return [path.stat().st_size for path in self.folder.iterdir() if path.suffix != ".json"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NodeServer]:
    server = NodeServer(tmp_path / "theirs")
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def upload(tmp_path: Path) -> AsyncIterator[Callable[[str, Meter], asyncio.Task[None]]]:
    """Begin to send a large file to a server."""
    path = tmp_path / "film.mp4"
    stream = blake3(b"a film about a clock")
    with path.open("wb") as file:
        for at in range(0, SIZE, 1 << 20):
            file.write(stream.digest(length=1 << 20, seek=at))
    digest = blake3().update_mmap(path).hexdigest()
    film = Fingerprint(path, SIZE, path.stat().st_mtime_ns, {"blake3": digest})
    workers = HttpWorkers()

    def begin(url: str, meter: Meter) -> asyncio.Task[None]:
        return asyncio.create_task(tus_upload(workers.at(url), f"{url}/files/", FileRef(digest, ".mp4"), film, meter))

    yield begin
    await workers.close()


def assert_there(server: NodeServer, tmp_path: Path) -> None:
    [theirs] = [path for path in server.folder.iterdir() if path.suffix != ".json"]
    assert theirs.read_bytes() == (tmp_path / "film.mp4").read_bytes()


async def test_a_file_arrives_whole(
    server: NodeServer, upload: Callable[[str, Meter], asyncio.Task[None]], tmp_path: Path
) -> None:
    meter = Meter()
    await upload(server.url, meter)
    assert meter.total == SIZE
    assert_there(server, tmp_path)


async def test_an_upload_resumes_after_a_server_kill(
    server: NodeServer, upload: Callable[[str, Meter], asyncio.Task[None]], tmp_path: Path
) -> None:
    sending = upload(server.url, Meter())
    await until(lambda: any(server.sizes()))
    await server.kill()
    with pytest.raises(WorkerUnreachable):
        await sending
    [came] = server.sizes()
    assert 0 < came < SIZE
    await server.start()
    meter = Meter()
    again = upload(server.url, meter)
    await until(lambda: meter.total)
    assert meter.total >= came
    await again
    assert_there(server, tmp_path)
