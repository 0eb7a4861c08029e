"""Results for players and downloads: each alone, or many as a ZIP file that is made while it is sent."""

from __future__ import annotations

import asyncio
import io
import secrets
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from aiohttp import hdrs, web

from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError, bad_request, json_answer
from wakestream.adapters.daemon.console.job_view import JobView
from wakestream.adapters.daemon.console.preferences import legal
from wakestream.adapters.daemon.console.sessions import Sessions
from wakestream.adapters.daemon.result_reuse import results_of
from wakestream.adapters.disk.media_types import media_type
from wakestream.adapters.disk.result_names import numbered
from wakestream.adapters.net.static_files import SAFE
from wakestream.adapters.runtime.recent import Recent
from wakestream.streams.outbox.state import Entry

RESULT: Final = {
    **SAFE,
    hdrs.CONTENT_SECURITY_POLICY: (
        "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; sandbox"
    ),
    hdrs.CACHE_CONTROL: "private, no-store",
}
"""The headers of a result: opened on its own it has no rights, whatever is in it."""

KEPT: Final = 20
"""Archives whose addresses are valid; a further one replaces the oldest."""

_BLOCK: Final = 1024 * 1024

plain_answer = partial(json_answer, headers=SAFE)
"""An answer in JSON, with the page's headers."""


class Results:
    """The calls for results. A player or a download sends no session: its address has a ticket, or an archive's key.

    `fetched(entry)` is called when all results of a job were downloaded.
    """

    def __init__(self, jobs: JobView, sessions: Sessions, fetched: Callable[[Entry], None]) -> None:
        self._jobs, self._sessions, self._fetched = jobs, sessions, fetched
        self._asked: Recent[str, tuple[str, list[str]]] = Recent(KEPT)

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.post("/console/archives", self.ask),
            web.get("/console/results/archive/{key}", self.send, allow_head=False),
            web.post("/console/jobs/{job}/ticket", self.ticket),
            web.get("/console/results/{job}", self.result),
        ]

    async def ask(self, request: web.Request) -> web.Response:
        """An address for the results of the jobs `jobs`; `name` is that of the file."""
        body = await requests.json_object(request)
        jobs, name = body.get("jobs"), legal(str(body.get("name", ""))[:80]) or "results"
        if not isinstance(jobs, list) or not all(isinstance(job, str) for job in jobs):
            raise bad_request('send "jobs", a list of ids')
        key = secrets.token_urlsafe(24)
        self._asked[key] = name, jobs
        return plain_answer({"url": f"/console/results/archive/{key}"})

    async def send(self, request: web.Request) -> web.StreamResponse:
        """The archive."""
        if request.match_info["key"] not in self._asked:
            raise ApiError(401, "no_ticket", "this address has expired; save the results from the page again")
        name, jobs = self._asked[request.match_info["key"]]
        headers = {**SAFE, hdrs.CONTENT_TYPE: "application/zip", hdrs.CONTENT_DISPOSITION: disposition(f"{name}.zip")}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        blocks = zipped(self._files(jobs))
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            await response.write(block)
        await response.write_eof()
        for entry in filter(None, map(self._jobs.outbox.state.jobs.get, jobs)):
            self._fetched(entry)
        return response

    def _files(self, jobs: list[str]) -> list[tuple[str, Path]]:
        """The results that are here, each with a name of its own."""
        paths: dict[str, Path] = {}
        entries = (self._jobs.outbox.state.jobs.get(job) for job in jobs)
        for entry in (entry for entry in entries if entry is not None):
            made = results_of(entry)
            for output in self._jobs.outputs(entry):
                if output["here"]:
                    names = (path.name for path in numbered(Path(output["file"])))
                    paths[next(name for name in names if name not in paths)] = made[output["name"]][0]
        return [*paths.items()]

    async def ticket(self, request: web.Request) -> web.Response:
        """An address of a job's results for a player or a download; add `&name=` for one of several."""
        entry = self.done(requests.job_name(request.match_info["job"]))
        if not any(path.is_file() for path, _ in results_of(entry).values()):
            raise gone()
        job = entry.accepted.job
        return plain_answer({"url": f"/console/results/{quote(job, safe='')}?ticket={self._sessions.ticket(job)}"})

    async def result(self, request: web.Request) -> web.StreamResponse:
        """The result `&name=`, or the main one, with support for ranges; with `&download` as a download.

        With `&input=` the input of that name, to be shown beside the result.
        """
        if not self._sessions.opens(request.match_info["job"], request.query.get("ticket", "")):
            raise ApiError(401, "no_ticket", "this address has expired; open the result from the page")
        entry = self.done(requests.job_name(request.match_info["job"]))
        if "input" in request.query:
            return self._given(entry, request.query["input"])
        name = request.query.get("name") or next(iter(entry.accepted.outputs))
        result = next((output for output in self._jobs.outputs(entry) if output["name"] == name), None)
        path = results_of(entry).get(name, (None, 0))[0]
        if result is None or path is None:
            raise ApiError(404, "no_result", f"job {entry.accepted.job} has no result {name[:40]!r}")
        if not result["here"]:
            raise gone()
        answer = file_answer(path, result["file"], download="download" in request.query)
        if "download" in request.query and len(results_of(entry)) == 1:
            answer.sent = partial(self._fetched, entry)
        return answer

    def _given(self, entry: Entry, name: str) -> web.StreamResponse:
        """An input for a player; other types of files are not given away."""
        path = self.input(entry, name)
        if path is None or not path.is_file():
            raise gone()
        if media_type(path).shown not in ("video", "audio", "image"):
            raise ApiError(404, "no_result", f"the input {name[:40]!r} is no media file")
        return file_answer(path, path.name)

    def input(self, entry: Entry, name: str) -> Path | None:
        """The path of an input of a job; None if it has none of that name."""
        file = entry.accepted.inputs.get(name)
        return None if file is None else Path(file.path)

    def done(self, job: str) -> Entry:
        """A job, which must be done."""
        entry = self.known(job)
        if entry.state != "done":
            raise ApiError(404, "no_result", f"job {entry.accepted.job} has no result")
        return entry

    def known(self, job: str) -> Entry:
        """A job that the outbox has."""
        entry = self._jobs.outbox.state.jobs.get(job)
        if entry is None:
            raise ApiError(404, "no_result", f"job {job} has no result")
        return entry


class _File(web.FileResponse):
    """A file. `sent` is called when a client has got all of it."""

    sent: Callable[[], None] = staticmethod(lambda: None)

    async def prepare(self, request: web.BaseRequest) -> Any:
        writer = await super().prepare(request)
        if request.method == hdrs.METH_GET and self.status == HTTPStatus.OK:
            self.sent()
        return writer


def file_answer(path: Path, name: str, *, download: bool = False) -> _File:
    """A file, with support for ranges; as a download of this name if that is wanted, or no browser may show it."""
    kind = media_type(path)
    headers = {**RESULT, hdrs.CONTENT_TYPE: kind.content}
    if download or not kind.shown:
        headers[hdrs.CONTENT_DISPOSITION] = disposition(name)
    return _File(path, headers=headers)


def gone() -> ApiError:
    """The refusal of a result that is not there any more."""
    return ApiError(410, "result_gone", "the result was removed or moved")


class _Sink(io.RawIOBase):
    """Keeps what the archive wrote until it is sent."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def zipped(files: list[tuple[str, Path]]) -> Iterator[bytes]:
    """The parts of a ZIP file with these files. One that cannot be read is left out, or cut where it ended."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            try:
                with path.open("rb") as source, archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
                    while block := source.read(_BLOCK):
                        target.write(block)
                        yield sink.take()
            except OSError:
                continue
    yield sink.take()


def disposition(name: str) -> str:
    """`Content-Disposition` for a download with this name: RFC 6266, and RFC 5987 for characters outside ASCII."""
    plain = "".join(char if char.isascii() and char not in '"\\%' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
