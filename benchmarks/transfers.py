"""File transfers over loopback: fingerprints, uploads, resumable uploads and downloads, each with its yardstick.

Clients and servers are separate processes. The files are in memory if the system has /dev/shm, so that the disk is not
measured. WAKESTREAM_BENCH_MB sets the size (default 1024), each figure is the best of
WAKESTREAM_BENCH_ROUNDS (default 3), measured alternately with its yardstick. The machine must be idle: on few cores,
other programs slow down our threads more than curl, which has one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from blake3 import blake3
from timing import MEMORY, row

from wakestream.operators.model.events import FileRef, Fingerprint

SIZE = int(os.environ.get("WAKESTREAM_BENCH_MB", "1024")) * 1024 * 1024
ROUNDS = int(os.environ.get("WAKESTREAM_BENCH_ROUNDS", "3"))
SECRET = "benchmark-secret"  # noqa: S105 - of this benchmark alone
HERE = Path(__file__).resolve()
PEERS = HERE.parents[1] / "tests" / "peers"
EXT = ".bin"
BODY = "application/offset+octet-stream"
MB = 1e6


# The servers, each in a process that says its address first


async def serve_worker(folder: Path, *, hashing: bool = True) -> None:
    """Our worker; without `hashing` it takes every upload for what it says it is."""
    from wakestream.adapters.engines import Command, lipsync_program
    from wakestream.adapters.worker.config import WorkerConfig
    from wakestream.adapters.worker.program import running_worker

    if not hashing:
        unhashed()
    engine = Command([lipsync_program(("true", "{video}", "{audio}", "{output}"))])
    async with running_worker(WorkerConfig(folder, engine, SECRET, port=0)) as worker:
        print(worker.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def unhashed() -> None:
    """Take the hashing out of the worker."""
    from wakestream.adapters.worker import resumable_uploads as uploads
    from wakestream.adapters.worker import upload_records

    class Nothing:
        def update(self, data: bytes, /) -> None: ...

        def hexdigest(self) -> str:
            return ""

    real = uploads.Uploads._publish

    def publish(self: uploads.Uploads, upload: upload_records.Upload, ref: FileRef) -> None:
        real(self, upload, upload.announced.ref or ref)

    upload_records.blake3 = Nothing  # type: ignore[assignment, attr-defined]
    uploads.check = lambda digest, expected: None  # type: ignore[attr-defined]
    uploads.Uploads._publish = publish  # type: ignore[method-assign]


async def serve_download(folder: Path) -> None:
    """Our worker's way of sending a result."""
    from aiohttp import web

    from wakestream.adapters.worker.http.transfers import put_etag, result_response

    digest = blake3()
    digest.update_mmap(folder / "source")

    async def download(request: web.Request) -> web.StreamResponse:
        return result_response(request, folder / "source", digest.hexdigest())

    app = web.Application()
    app.router.add_get("/api/heygem/download", download)
    app.on_response_prepare.append(put_etag)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


class Raw(asyncio.BufferedProtocol):
    """As little of tus as a client needs, straight onto a file: what a receiver costs at least.

    Onto one that is there already, unless it is `hashing`: then a new one, as our worker's is.
    """

    def __init__(self, file: int, hashing: bool) -> None:
        self._file = file
        self._buffer = bytearray(1024 * 1024)
        self._view = memoryview(self._buffer)
        self._head = b""
        self._left = 0
        self._hash = blake3() if hashing else None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, _: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        if self._left:
            self._body(self._view[:count])
            return
        self._head += bytes(self._view[:count])
        if b"\r\n\r\n" in self._head:
            head, _, rest = self._head.partition(b"\r\n\r\n")
            self._head = b""
            self._asked(head.decode().lower(), rest)

    def _asked(self, head: str, rest: bytes) -> None:
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        if head.startswith("post"):
            self._answer("201 Created", "Location: /files/1\r\nUpload-Offset: 0\r\n")
            return
        if "100-continue" in headers.get("expect", ""):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._left = self._size = int(headers["content-length"])
        if self._hash is not None:
            self._hash = blake3()
            os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        if rest:
            self._body(memoryview(rest))

    def _body(self, block: memoryview) -> None:
        os.write(self._file, block)
        if self._hash is not None:
            self._hash.update(block)
        self._left -= len(block)
        if not self._left:
            self._answer("204 No Content", f"Upload-Offset: {self._size}\r\n")

    def _answer(self, status: str, headers: str) -> None:
        self._transport.write(f"HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n".encode())


async def serve_raw(folder: Path, *, hashing: bool = False) -> None:
    """The raw receiver."""
    file = os.open(folder / "cached", os.O_CREAT | os.O_WRONLY)
    for at in range(0, SIZE, 1 << 24):
        os.pwrite(file, bytes(1 << 24), at)
    server = await asyncio.get_running_loop().create_server(lambda: Raw(file, hashing), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


SERVERS: dict[str, Callable[[Path], Any]] = {
    "worker": serve_worker,
    "unhashed": lambda folder: serve_worker(folder, hashing=False),
    "raw": serve_raw,
    "raw_hashed": lambda folder: serve_raw(folder, hashing=True),
    "download": serve_download,
}


@contextmanager
def server(kind: str, folder: Path) -> Iterator[str]:
    """The address of a server of this kind, in a process of its own."""
    folder.mkdir(exist_ok=True)
    with running([sys.executable, str(HERE), "serve", kind, str(folder)], folder) as url:
        yield url


@contextmanager
def running(argv: list[str], folder: Path) -> Iterator[str]:
    """The first line that a program says, which is its address; it ends when its input does."""
    with (folder / "log").open("w") as log:
        program = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    assert program.stdout is not None
    try:
        yield program.stdout.readline().strip()
    finally:
        program.kill()
        program.communicate()


# The clients


async def ours(endpoint: str, source: Path, digest: str) -> float:
    """Seconds that our client takes for one upload by tus."""
    from wakestream.adapters.client.upload import Meter, tus_upload
    from wakestream.adapters.client.worker import HttpWorkers

    status = source.stat()
    file = Fingerprint(source, status.st_size, status.st_mtime_ns, {"blake3": digest})
    workers = HttpWorkers(endpoint, SECRET)
    worker = workers.at(None)
    try:
        start = time.perf_counter()
        await tus_upload(worker, f"{endpoint}/files/", FileRef(digest, EXT), file, Meter())
        return time.perf_counter() - start
    finally:
        await workers.close()


async def ours_down(url: str, output: Path) -> float:
    """Seconds that our client takes for one verified download."""
    from wakestream.adapters.client.worker import HttpWorkers

    workers = HttpWorkers(url, SECRET)
    worker = workers.at(None)
    worker.features = frozenset({"blake3", "range"})
    try:
        start = time.perf_counter()
        async for _ in worker.download("1", output):
            pass
        return time.perf_counter() - start
    finally:
        await workers.close()


def tuspy_up(endpoint: str, source: Path, digest: str) -> float:
    """Seconds that tuspy takes."""
    from tusclient.client import TusClient

    client = TusClient(f"{endpoint}/files/", headers={"Authorization": f"Bearer {SECRET}"})
    start = time.perf_counter()
    metadata = {"filename": f"a{EXT}", "blake3": digest}
    client.uploader(str(source), chunk_size=SIZE, metadata=metadata).upload()
    return time.perf_counter() - start


CLIENTS: dict[str, Callable[..., float]] = {
    "ours": lambda url, source, digest: asyncio.run(ours(url, Path(source), digest)),
    "download": lambda url, output: asyncio.run(ours_down(url, Path(output))),
    "tuspy": lambda url, source, digest: tuspy_up(url, Path(source), digest),
}


def client(kind: str, *arguments: str) -> float:
    """Seconds by a client in a process of its own, its start not counted."""
    done = subprocess.run(
        [sys.executable, str(HERE), "client", kind, *arguments], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def curl(*arguments: str) -> float:
    """Seconds that curl itself says it took."""
    words = ["curl", "-sS", "--fail", "-w", "%{time_total}", "-H", f"Authorization: Bearer {SECRET}"]
    done = subprocess.run([*words, *arguments], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def curl_up(url: str, source: Path) -> float:
    """`curl -T` as PATCH."""
    head = ["-H", "Tus-Resumable: 1.0.0", "-H", "Upload-Offset: 0", "-H", f"Content-Type: {BODY}"]
    return curl(*head, "-X", "PATCH", "-T", str(source), "-o", os.devnull, url)


def created(endpoint: str, digest: str) -> str:
    """The address of a new upload, made by curl."""
    said = base64.b64encode(digest.encode()).decode()
    name = base64.b64encode(f"a{EXT}".encode()).decode()
    done = subprocess.run(
        [
            *("curl", "-sS", "--fail", "-i", "-X", "POST", "-H", f"Authorization: Bearer {SECRET}"),
            *("-H", "Tus-Resumable: 1.0.0", "-H", f"Upload-Length: {SIZE}"),
            *("-H", f"Upload-Metadata: blake3 {said},filename {name}", f"{endpoint}/files/"),
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    place = next(line for line in done.stdout.splitlines() if line.lower().startswith("location:"))
    return f"{endpoint}/files/{place.split(':', 1)[1].strip()}"


def fresh(folder: Path) -> None:
    """Let a worker's next upload be a new one: its files are moved away, as if they had expired."""
    for path in (*folder.glob("files/*"), *folder.glob("uploads/*")):
        path.unlink()


# The rows


def best(**cases: Callable[[], float]) -> dict[str, float]:
    """The least seconds of each, taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, case in cases.items():
            taken[name].append(case())
    found = {name: min(times) for name, times in taken.items()}
    for name, seconds in found.items():
        print(f"        {name.replace('_', ' '):<46} {SIZE / seconds / MB:7.0f} MB/s")
    return found


def fingerprint(source: Path) -> bool:
    """The client's reading of a file against BLAKE3 over the same bytes in memory."""
    from wakestream.adapters.disk.fingerprints import DiskFiles

    content = source.read_bytes()

    def bare() -> float:
        start = time.perf_counter()
        blake3(content)
        return time.perf_counter() - start

    async def taken() -> float:
        files = DiskFiles()
        start = time.perf_counter()
        await files.fingerprint(source, {"blake3"})
        seconds = time.perf_counter() - start
        await files.close()
        return seconds

    print("fingerprint:")
    found = best(bare_BLAKE3_one_thread=bare, fingerprint=lambda: asyncio.run(taken()))
    return row("fingerprint: bare BLAKE3", found["bare_BLAKE3_one_thread"], found["fingerprint"], 0.9, at_most=False)


def upload(source: Path, digest: str, place: Path) -> bool:
    """Our client against curl, to the same raw receiver; then with everything verified, to our worker."""
    print("upload:")
    with (
        server("raw", place / "raw") as raw,
        server("raw_hashed", place / "raw_hashed") as hashed,
        server("worker", place / "verified") as worker,
    ):

        def verified() -> float:
            fresh(place / "verified")
            return client("ours", worker, str(source), digest)

        found = best(
            curl_T_to_a_raw_receiver=lambda: curl_up(f"{raw}/files/1", source),
            our_client_to_the_same=lambda: client("ours", raw, str(source), digest),
            curl_T_to_one_that_hashes_a_new_file=lambda: curl_up(f"{hashed}/files/1", source),
            our_client_to_our_worker_verified=verified,
        )
    curls, hashing = found["curl_T_to_a_raw_receiver"], found["curl_T_to_one_that_hashes_a_new_file"]
    held = row("upload: curl -T", curls, found["our_client_to_the_same"], 0.8, at_most=False)
    ours_verified = found["our_client_to_our_worker_verified"]
    kept = row("upload, verified: curl -T to raw receive + write + hash", hashing, ours_verified, 0.6, at_most=False)
    return held and kept


def ingest(source: Path, digest: str, place: Path) -> bool:
    """What verifying costs our worker."""
    print("worker's verified ingest:")
    with server("worker", place / "hashed") as hashed, server("unhashed", place / "unhashed") as unhashed:

        def up(url: str, folder: Path) -> float:
            fresh(folder)
            return curl_up(created(url, digest), source)

        found = best(
            without_hashing=lambda: up(unhashed, place / "unhashed"), verified=lambda: up(hashed, place / "hashed")
        )
    return row("verified ingest: without hashing", found["without_hashing"], found["verified"], 0.8, at_most=False)


def resumable(source: Path, digest: str, place: Path) -> bool:
    """Our client against tuspy, our worker against @tus/server."""
    print("resumable upload:")
    held = True
    with ExitStack() as stack:
        worker = stack.enter_context(server("worker", place / "tus"))

        def to_worker(kind: str) -> float:
            fresh(place / "tus")
            return client(kind, worker, str(source), digest)

        cases = {"our client to our worker": lambda: to_worker("ours")}
        if find_spec("tusclient"):
            cases["tuspy to our worker"] = lambda: to_worker("tuspy")
        if (PEERS / "node_modules" / "@tus").is_dir() and shutil.which("node"):
            (place / "node").mkdir()
            node = ["node", str(PEERS / "server.js"), str(place / "node" / "files")]
            url = stack.enter_context(running(node, place / "node"))

            def to_node() -> float:
                shutil.rmtree(place / "node" / "files", ignore_errors=True)
                (place / "node" / "files").mkdir()
                return client("ours", url, str(source), digest)

            cases["our client to @tus/server"] = to_node
        found = best(**cases)
    ours_here = found["our client to our worker"]
    if "tuspy to our worker" in found:
        held &= row("our client: tuspy, to our worker", found["tuspy to our worker"], ours_here, 2.0, at_most=False)
    else:
        print("  skipped: tuspy is not installed")
    if "our client to @tus/server" in found:
        held &= row(
            "our worker: @tus/server, under our client",
            found["our client to @tus/server"],
            ours_here,
            2.0,
            at_most=False,
        )
    else:
        print("  skipped: node or tests/peers/node_modules is not there (make peers)")
    return held


def download(source: Path, place: Path) -> bool:
    """A verified download to a new file, against curl's that verifies nothing."""
    print("download to a new file:")
    folder = place / "down"
    folder.mkdir()
    (folder / "source").symlink_to(source)

    def new(output: Path) -> str:
        output.unlink(missing_ok=True)
        return str(output)

    with server("download", folder) as url:
        address = f"{url}/api/heygem/download?task_id=1"
        found = best(
            curl=lambda: curl("-o", new(folder / "curls"), address),
            our_client_verified=lambda: client("download", url, new(folder / "ours")),
        )
    return row("download: curl", found["curl"], found["our_client_verified"], 1.0, at_most=False)


def main() -> bool:
    """Print the rows; True if every budget holds."""
    if shutil.which("curl") is None:
        print("transfers: skipped, curl is not here to compare with")
        return True
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        place = Path(name)
        source = place / f"source{EXT}"
        with source.open("wb") as file:
            for _ in range(SIZE // (1 << 20)):
                file.write(os.urandom(1 << 20))
        digest = blake3().update_mmap(source).hexdigest()
        print(f"transfers of {SIZE >> 20} MiB over loopback, in {place.parent}, best of {ROUNDS}:")
        held = [
            fingerprint(source),
            upload(source, digest, place),
            ingest(source, digest, place),
            resumable(source, digest, place),
            download(source, place),
        ]
    return all(held)


if __name__ == "__main__":
    role, kind, *given = sys.argv[1:]
    if role == "serve":
        asyncio.run(SERVERS[kind](Path(*given)))
    else:
        print(json.dumps(CLIENTS[kind](*given)))
