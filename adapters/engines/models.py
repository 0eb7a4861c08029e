"""Models that a manifest names are fetched into the engine's folder, before the work that needs them.

A token goes to the address in the manifest only, not to where that redirects: Hugging Face, for example, answers with
the signed address of another server. A part stays when a transfer breaks off, and is continued, also by the next run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path
from shutil import disk_usage
from typing import Any, Final

import aiohttp
from loguru import logger
from yarl import URL

from wakestream.adapters.config.setting_files import Secret, SettingsError
from wakestream.adapters.disk.hashing_writer import BATCH, HashingWriter
from wakestream.adapters.disk.part_file import beside, sync_rename, taken, unlink
from wakestream.adapters.engines.http_engine import ANSWER, KEPT_FREE, Waiting
from wakestream.adapters.engines.model_files import Model
from wakestream.adapters.net.direct_body import body_blocks
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Preview, Readiness, Work
from wakestream.operators.model.errors import TaskFailed

AT_ONCE: Final = 3
"""Models that are fetched at the same time."""

AGAIN: Final = 1.0
"""Seconds until a transfer that broke off is continued; doubled up to `LONGEST`."""

LONGEST: Final = 60.0

PATIENCE: Final = 1800.0
"""Seconds without a byte after which a model cannot be fetched: the machine costs, and a job waits for it."""

LOOK_AGAIN: Final = 300.0
"""Seconds until a model that could not be fetched is tried again: a token or a file may be corrected by then."""

SAY_EVERY: Final = 5.0
"""Seconds between two lines about the progress."""

_REDIRECTS: Final = 5


class _Fault(Exception):
    """The model cannot be fetched until a person changes something; the text says what."""


class _Broken(Exception):
    """The transfer broke off, and can be continued."""


class Models:
    """The models of a worker, and how far they are.

    Args:
        needs: Those that each kind needs.
        folder: The engine's folder of models.
        most: The most bytes of all of them; None: any.
        token: The token for gated models.
        host: The host that gets the token. It may be left out if all models are at one.

    Raises:
        SettingsError: They have more bytes than `most`, or it is not known whose the token is.

    Attributes:
        on_news: Called with the text of the progress when that changes.
        moving: Makes a block in which bytes are fetched, so that the machine stays on.
    """

    def __init__(
        self,
        needs: Mapping[str, Sequence[Model]],
        folder: Path,
        most: int | None = None,
        token: Secret | None = None,
        host: str = "",
    ) -> None:
        self._needs, self._folder, self._token = needs, folder, token
        self._all = {model.file: model for models in needs.values() for model in models}
        self._sizes = dict.fromkeys(self._all, 0)
        self._faults: dict[str, str] = {}
        self._troubles: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._told = ""
        self.on_news: Callable[[str], object] = lambda _: None
        self.moving: Callable[[], AbstractContextManager[object]] = nullcontext
        whole = sum(model.size for model in self._all.values())
        if most is not None and whole > most:
            raise SettingsError(f"the models of the manifest have {whole} bytes, and --models-max allows {most}")
        hosts = sorted({model.host for model in self._all.values()})
        if token is not None and (len(hosts) > 1 if not host else host not in hosts):
            names = ", ".join(hosts)
            raise SettingsError(f"--models-token: the models are at {names}; say whose it is, as in HOST=FILE")
        self._token_host = host or hosts[0] if hosts else ""

    def missing(self, kind: str) -> list[Model]:
        """The models of a kind that are not there yet."""
        return [model for model in self._needs.get(kind, ()) if self._sizes[model.file] < model.size]

    def fault(self, kind: str) -> str:
        """Why a model of a kind cannot be fetched; empty if none has a fault."""
        return next((self._faults[model.file] for model in self.missing(kind) if model.file in self._faults), "")

    def text(self, models: Iterable[Model] | None = None) -> str:
        """How far the models are, for people; empty if all are there."""
        asked = list(self._all.values() if models is None else models)
        todo = [model for model in asked if self._sizes[model.file] < model.size]
        fetched = [model for model in todo if model.file not in self._faults]
        if not fetched:
            return next((self._faults[model.file] for model in todo), "")
        more = f" and {len(fetched) - 1} more" if len(fetched) > 1 else ""
        done, of = (
            sum(sizes) for sizes in zip(*((self._sizes[model.file], model.size) for model in fetched), strict=True)
        )
        unit, name = (1e9, "GB") if of >= 1e9 else (1e6, "MB")
        trouble = next((f"; {self._troubles[model.file]}" for model in fetched if model.file in self._troubles), "")
        far = f"{done / unit:.1f} of {of / unit:.1f} {name}"
        return f"fetching {fetched[0].name}{more}, {far}{trouble}"

    async def changed(self) -> None:
        """Return when there is news."""
        await self._changed.wait()

    async def run(self) -> None:
        """Fetch what is missing; return when all models are there."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=ANSWER)
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="models")
        try:
            async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
                while True:
                    for model in self._all.values():
                        with suppress(_Fault):
                            self._look(model)
                    room = asyncio.Semaphore(AT_ONCE)
                    async with tasks_of_block() as start:
                        await asyncio.gather(
                            *(start(self._kept(room, session, pool, wanted)) for wanted in self._all.values())
                        )
                    if not self._faults:
                        return
                    await asyncio.sleep(LOOK_AGAIN)
        finally:
            pool.shutdown(wait=False)

    def _path(self, model: Model) -> Path:
        return self._folder.joinpath(*model.file.split("/"))

    def _look(self, model: Model) -> None:
        """Find a model that is there already. Raises `_Fault` if another file is in its place."""
        if (path := self._path(model)).exists():
            if (size := path.stat().st_size) != model.size:
                why = f"{path} has {size} bytes, the manifest says {model.size}"
                raise _Fault(f"{why}; remove it, or correct the manifest")
            self._sizes[model.file] = size

    async def _kept(
        self, room: asyncio.Semaphore, session: aiohttp.ClientSession, pool: ThreadPoolExecutor, model: Model
    ) -> None:
        """Fetch one model; after each transfer that broke off, continue it."""
        clock = asyncio.get_running_loop().time
        pause, moved_at = AGAIN, clock()
        async with room:
            while self._sizes[model.file] < model.size:
                before = self._sizes[model.file]
                try:
                    self._look(model)
                    if self._sizes[model.file] < model.size:
                        with self.moving():
                            await self._fetch(session, pool, model)
                    self._faults.pop(model.file, None)
                except _Fault as fault:
                    self._faults[model.file] = str(fault)
                    logger.error("{}", fault)
                    break
                except (_Broken, aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                    if self._sizes[model.file] > before:
                        pause, moved_at = AGAIN / 2, clock()
                    pause = min(LONGEST, 2 * pause)
                    why = str(error) if isinstance(error, _Broken) else f"no connection to {model.host}"
                    if clock() - moved_at > PATIENCE:
                        self._faults[model.file] = f"{model.name} cannot be fetched: {why}"
                        break
                    self._troubles[model.file] = f"{why}, it is tried again in {pause:.0f} s"
                    logger.warning("{}: {}", model.file, self._troubles[model.file])
                    self._news(at_once=True)
                    await asyncio.sleep(pause)
                except OSError as error:
                    self._faults[model.file] = (
                        f"{model.file} cannot be stored: {error.strerror or error}; free some room"
                    )
                    break
                self._troubles.pop(model.file, None)
        self._news(at_once=True)

    def _news(self, *, at_once: bool = False) -> None:
        text = self.text()
        if text != self._told or at_once:
            self._told = text
            self.on_news(text)
            self._changed.set()
            self._changed = asyncio.Event()

    async def _fetch(self, session: aiohttp.ClientSession, pool: ThreadPoolExecutor, model: Model) -> None:
        """Fetch a model. Raises `_Fault` or `_Broken`, and what aiohttp and the disk raise."""
        path = self._path(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = beside(path, model.sha256)
        if (file := taken(part)) is None:
            raise _Broken("another program fetches it")
        with file:
            earlier = os.fstat(file.fileno()).st_size
            if earlier > model.size:
                file.truncate(0)
                earlier = 0
            digest = await asyncio.get_running_loop().run_in_executor(pool, _digest, file)
            if earlier < model.size:
                digest, earlier = await self._received(session, pool, model, file, digest)
            if digest.hexdigest() != model.sha256:
                file.truncate(0)
                self._sizes[model.file] = 0
                wrong = f"{model.name} from {model.host} has the SHA-256 {digest.hexdigest()}, not the manifest's"
                if earlier:
                    raise _Broken(wrong)
                raise _Fault(f"{wrong}; the file has changed there, or the manifest is wrong")
            await asyncio.get_running_loop().run_in_executor(pool, os.fsync, file.fileno())
            part.replace(path)
        sync_rename(path)
        unlink(part)
        self._sizes[model.file] = model.size
        logger.info("the model {} is there", model.file)

    async def _received(
        self, session: aiohttp.ClientSession, pool: ThreadPoolExecutor, model: Model, file: FileIO, digest: Any
    ) -> tuple[Any, int]:
        """Append the rest of a model; returns the hash of all, and how many earlier bytes are in it."""
        earlier = os.fstat(file.fileno()).st_size
        async with self._answer(session, model, earlier) as response:
            resumed = response.status == 206
            length = response.content_length
            whole = None if length is None else length + (earlier if resumed else 0)
            if whole is not None and whole != model.size:
                raise _Fault(_other_size(model, whole))
            if not resumed:
                file.truncate(0)
                digest, earlier = hashlib.sha256(), 0
            free = disk_usage(self._folder).free - KEPT_FREE
            if model.size - earlier > free:
                why = (
                    f"{model.name} needs {model.size - earlier} bytes more, {self._folder} has room for {max(0, free)}"
                )
                raise _Fault(f"{why}; free some")
            file.seek(earlier)
            writer = HashingWriter(file, [digest], pool, earlier)
            said_at = asyncio.get_running_loop().time()
            transport = response.connection.transport if response.connection is not None else None
            try:
                async with aclosing(body_blocks(response.content, transport, length or 0, ANSWER)) as blocks:
                    async for block in blocks:
                        if writer.size + len(block) > model.size:
                            raise _Fault(_other_size(model, writer.size + len(block)))
                        await writer.add(block)
                        self._sizes[model.file] = min(writer.size, model.size - 1)  # it is there when it is verified
                        if (now := asyncio.get_running_loop().time()) - said_at >= SAY_EVERY:
                            said_at = now
                            self._news()
            finally:
                await writer.flush()
        if writer.size < model.size:
            raise _Broken(f"{model.host} broke off")
        return digest, earlier

    @asynccontextmanager
    async def _answer(
        self, session: aiohttp.ClientSession, model: Model, earlier: int
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer with the bytes from `earlier` on. Redirects are followed without the token."""
        first = url = URL(model.url)
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={earlier}-"} if earlier else {})}
        for _ in range(_REDIRECTS):
            ours = self._token is not None and first.host == self._token_host
            own = {"Authorization": f"Bearer {self._token}"} if ours and url.origin() == first.origin() else {}
            async with session.get(url, headers={**headers, **own}, allow_redirects=False) as response:
                where = response.headers.get("Location") if 300 <= response.status < 400 else None
                if where is None:
                    _check(model, response, earlier, token=ours)
                    yield response
                    return
            url = _redirected(model, url, where)
        raise _Fault(f"{model.host} redirects {model.name} more than {_REDIRECTS} times; correct its url")


def _redirected(model: Model, url: URL, where: str) -> URL:
    """Where a redirect leads; a signed address stays as it is."""
    try:
        target = url.join(URL(where, encoded=True))
        target.origin()
    except ValueError:
        target = URL()
    if target.scheme not in ("http", "https") or (url.scheme == "https" and target.scheme == "http"):
        raise _Fault(f"{model.host} redirects {model.name} to an address that is not https; correct its url")
    return target


def _check(model: Model, response: aiohttp.ClientResponse, earlier: int, *, token: bool) -> None:
    """Raises `_Fault` or `_Broken` unless the answer has the bytes from `earlier` on, or all of them."""
    status, host, name = response.status, model.host, model.name
    if status in (401, 403):
        if token:
            why = f"{host} does not accept the token for {name} (HTTP {status})"
            raise _Fault(f"{why}; accept the model's conditions on its page, or give another --models-token")
        raise _Fault(f"{host} wants a token for {name} (HTTP {status}); give --models-token FILE")
    if status in (408, 425, 429) or status >= 500:
        raise _Broken(f"{host} answers HTTP {status}")
    if status == 416:
        raise _Fault(_other_size(model, earlier))
    begins = response.headers.get("Content-Range", "").startswith(f"bytes {earlier}-")
    if status not in (200, 206) or (status == 206 and not begins):
        raise _Fault(f"{host} does not hand out {name} (HTTP {status}); correct its url in the manifest")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _Fault(f"{host} compresses {name}; take another url")


def _other_size(model: Model, size: int) -> str:
    return (
        f"{model.host} has {size} bytes of {model.name}, the manifest says {model.size}; the file has changed there: "
        "correct size and sha256"
    )


def _digest(file: FileIO) -> Any:
    """SHA-256 of what the file has."""
    digest, buffer = hashlib.sha256(), bytearray(BATCH)
    file.seek(0)
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
    return digest


class WithModels(Engine):
    """An engine whose works wait for the models of their kind. A kind whose models cannot be fetched is not offered.

    Args:
        engine: The engine.
        models: The models.
    """

    def __init__(self, engine: Engine, models: Models) -> None:
        self._engine, self._models = engine, models
        self.parallel = getattr(engine, "parallel", False)

    async def describe(self) -> Sequence[Kind]:
        """The engine's kinds, without those whose models cannot be fetched."""
        return [kind for kind in await self._engine.describe() if not self._models.fault(kind.name)]

    async def ready(self) -> Readiness:
        """As the engine, with how far the models are."""
        now, text = await self._engine.ready(), self._models.text()
        if not now.ready or not text:
            return now if not text else Readiness(False, f"{text}; {now.reason}", now.crashed)
        described = await self.describe()
        return Readiness(bool(described), "; ".join(filter(None, (text, now.reason))))

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """Wait for the models, then do the work."""
        waiting = Waiting()
        while missing := self._models.missing(work.kind):
            if fault := self._models.fault(work.kind):
                raise TaskFailed(fault)
            if (line := waiting.line(self._models.text(missing))) is not None:
                yield line
            await self._models.changed()
        if (over := waiting.over()) is not None:
            yield over
        async with aclosing(self._engine.render(work)) as items:
            async for item in items:
                yield item

    async def cancel(self, work: Work) -> None:
        """As the engine."""
        await self._engine.cancel(work)

    async def close(self) -> None:
        """As the engine."""
        await self._engine.close()
