"""A client of the daemon's local API for the command line. It finds the daemon by its folder, also after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec
import orjson

from wakestream.adapters.client.hub_query import Answer, Query
from wakestream.adapters.daemon import discovery as daemon_address
from wakestream.adapters.daemon.discovery import Address
from wakestream.operators.model.errors import FileUnusable, WakestreamError
from wakestream.operators.model.events import Job
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.known_kinds import UNKNOWN, KnownKinds, from_plain
from wakestream.streams.recording.event_json import OUTCOME_KINDS

HEALTH_WITHIN: Final = 3.0
CALL_WITHIN: Final = 60.0
SILENCE: Final = 60.0
"""Seconds without a byte after which a stream of events is lost; the daemon sends one every 10 s."""

PATIENCE: Final = 30.0
"""Seconds to wait for a daemon that restarts."""

LIST_MOST: Final = 1000
"""Jobs that one request can ask for."""

_TRY_EVERY: Final = 0.25
_MOST: Final = 16 * 1024 * 1024


Lengths = tuple[float | None, float | None]
"""Seconds of a job's video and audio; None if unknown."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Other jobs of the daemon that a job follows.

    Attributes:
        after: The ids of the jobs whose end it waits for.
        sources: Its inputs that are results of other jobs, as `JOB:NAME`.
    """

    after: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.after or self.sources)


NO_CHAIN: Final = Chain()


class DaemonUnreachable(WakestreamError):
    """No daemon runs with this folder."""

    code = "daemon_unreachable"


class DaemonRefused(WakestreamError):
    """The daemon refused a call; `code` is its word for the reason."""

    code = "refused"


class DaemonClient:
    """A client of the daemon with the folder `state`. Use `open_daemon_client`."""

    def __init__(self, state: Path, session: aiohttp.ClientSession) -> None:
        self.state = state
        self.patience = PATIENCE
        self._session = session
        self._address: Address | None = None
        self._features: frozenset[str] = frozenset()

    @property
    def url(self) -> str:
        """The daemon's address, once it has been found; empty before."""
        return self._address.url if self._address is not None else ""

    async def look(self) -> dict[str, Any] | None:
        """The daemon's answer to the health call; None if no daemon runs."""
        address = daemon_address.read(self.state)
        if address is None:
            return None
        try:
            async with asyncio.timeout(HEALTH_WITHIN):
                status, plain = await self._exchange(address, "GET", "/api/health")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None
        if status != 200 or plain.get("program") != "daemon":
            return None
        self._address, self._features = address, frozenset(plain.get("features", ()))
        return plain

    async def needed(self) -> dict[str, Any]:
        """As `look`; raises `DaemonUnreachable` if no daemon runs."""
        health = await self.look()
        if health is None:
            other = self.state != daemon_address.folder(None)
            how = f" --state {self.state}`" if other else "`, or name the folder of a running one with --state"
            raise DaemonUnreachable(f"no daemon runs for {self.state}; start one with `wakestream daemon{how}")
        return health

    async def submit(
        self,
        job: Job,
        lengths: Lengths = (None, None),
        chain: Chain = NO_CHAIN,
        if_exists: str = "fail",
        batch: str = "",
        *,
        family: str = "",
        sidecar: bool = False,
    ) -> dict[str, Any]:
        """Submit a job; it is in the daemon's journal when this returns. A repeat with the same id has no effect.

        `lengths` are the seconds of the video and the audio; they are not sent to a daemon of an earlier version.
        `chain` names other jobs of this daemon that it follows. Where the file of a result exists, the job is refused
        (`fail`), the result gets the next number (`number`), or it replaces the file (`replace`). `batch` is the
        name that the page shows for jobs that are submitted together, `family` the first of the jobs of which it is a
        variation. With `sidecar` a record of the results is written beside the main one.

        Raises `FileUnusable` for a path that is not UTF-8.
        """
        asked = {
            "id": job.id,
            "priority": job.priority,
            **self._options(job, if_exists, batch, family, sidecar=sidecar),
        }
        inputs, outputs = ({n: _named(p) for n, p in files.items()} for files in (job.inputs, job.outputs))
        if chain or job.gpus or job.requires or not job.old_shape:
            inputs |= {name: f"@{source}" for name, source in chain.sources.items()}
            asked |= {"kind": job.kind, "inputs": inputs, "params": dict(job.params), "outputs": outputs}
            asked |= {"after": [*chain.after]} if chain.after else {}
            asked |= {"gpus": [*job.gpus]} if job.gpus and "gpus" in self._features else {}
            asked |= {"requires": [*job.requires]} if job.requires else {}
            asked |= {"wake_to_ask": True} if "wake_to_ask" in self._features else {}  # a person was asked, if needed
        else:
            asked |= {**inputs, "output": _named(job.output), "task_type": job.task_type}
            known = zip(("video_s", "audio_s"), lengths if "lengths" in self._features else (None, None), strict=True)
            asked |= {name: seconds for name, seconds in known if seconds}
        return await self.call("POST", "/api/jobs", asked)

    def _options(self, job: Job, if_exists: str, batch: str, family: str, *, sidecar: bool) -> dict[str, Any]:
        """The fields that daemons of earlier versions do not know; `DaemonRefused` for one that the user needs."""
        for name, feature, needed in (
            ("again", "again", job.again), ("requires", "requires", job.requires), ("sidecar", "records", sidecar),
        ):  # fmt: skip
            if needed and feature not in self._features:
                why = f"the daemon has an earlier version without --{name}; restart it"
                raise DaemonRefused(why, code="unsupported")
        options: dict[str, dict[str, Any]] = {
            "again": {"again": job.again, "if_exists": if_exists, "unnamed": job.unnamed},
            "batch": {"batch": batch},
            "records": {"family": family, "sidecar": sidecar},
        }
        known = (fields for feature, fields in options.items() if feature in self._features)
        return {name: value for fields in known for name, value in fields.items() if value}

    async def kinds(self) -> KnownKinds:
        """What the GPUs can do; of a daemon of an earlier version, nothing is known."""
        if "kinds" not in self._features:
            return UNKNOWN
        return from_plain(await self.call("GET", "/api/kinds"))

    @property
    def asks_hub(self) -> bool:
        """Whether the daemon passes questions on to the hub; one of an earlier version does not."""
        return "hub" in self._features

    async def ask_hub(self, query: Query, kind: type[Answer]) -> Answer:
        """Ask the hub with the daemon's key; `kind` is the type of the answer.

        Raises:
            DaemonRefused: The daemon has no answer of the hub; `code` is that of a `HubError`.
            DaemonUnreachable: The daemon does not answer.
        """
        answer = wire.from_frame(await self.call("POST", "/api/hub", wire.to_frame(query)), strict=False)
        if not isinstance(answer, kind):
            raise DaemonRefused(f"the daemon at {self.url} answers with {answer.TYPE!r}; update it", code="old_daemon")
        return answer

    async def costs(self) -> tuple[dict[str, float], str]:
        """What the last jobs cost by id, and the currency; nothing if the hub or the daemon does not tell it."""
        if "costs" not in self._features:
            return {}, ""
        answer = await self.call("GET", "/api/costs")
        return answer["jobs"], answer["currency"]

    async def spent(self) -> dict[str, dict[str, Any]]:
        """What the last jobs used by id: `used_s`, `gpu`, and with a price `cost` and `currency`, as far as known."""
        spent: dict[str, dict[str, Any]] = (await self.call("GET", "/api/costs")).get("spent", {})
        return spent

    async def estimate(self, kind: str, lengths: Sequence[float | None]) -> dict[str, Any]:
        """What jobs of a kind take (docs/protocol-api.md); empty if it is not known."""
        if "estimate" not in self._features:
            return {}
        return await self.call("POST", "/api/estimate", {"kind": kind, "lengths": [*lengths]})

    async def jobs(self, state: str, limit: int, skip: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Jobs, newest first, without the `skip` newest, and the number of older ones beyond `limit`."""
        answer = await self.call("GET", f"/api/jobs?state={state}&limit={limit}&skip={skip}")
        return answer["jobs"], answer["matching"] - skip - len(answer["jobs"])

    async def job(self, job: str) -> dict[str, Any]:
        """One job."""
        return await self.call("GET", _path_of(job))

    async def preview(self, job: str, seen: int) -> dict[str, Any]:
        """What the engine has so far of a job, if its number is not `seen`; empty if there is nothing new."""
        if "previews" not in self._features:
            return {}
        return await self.call("GET", f"{_path_of(job)}/preview?seen={seen}")

    async def cancel(self, job: str) -> dict[str, Any]:
        """Cancel a job."""
        return await self.call("POST", f"{_path_of(job)}/cancel")

    async def move(
        self, job: str, before: str | None = None, *, after: str | None = None, first: bool = False
    ) -> dict[str, Any]:
        """Move a job that waits before or behind another one; else to the end, or with `first` to the top."""
        where = {"first": True} if first else {"after": after} if after else {"before": before}
        return await self.call("POST", f"{_path_of(job)}/move", where)

    async def retry(self, job: str) -> dict[str, Any]:
        """End the pause of a job, or submit one that ended without a result again; returns the job, or the new one."""
        return await self.call("POST", f"{_path_of(job)}/retry", {})

    async def rerun(
        self, job: str, params: Mapping[str, Any], outputs: Mapping[str, Path], if_exists: str
    ) -> dict[str, Any]:
        """Submit the work of a job as a new job, with these parameters and paths of results in place of its own."""
        if "rerun" not in self._features:
            raise DaemonRefused("the daemon has an earlier version without rerun; restart it", code="unsupported")
        named = {name: _named(path) for name, path in outputs.items()}
        body = {"params": params, "outputs": named, "if_exists": if_exists}
        return await self.call("POST", f"{_path_of(job)}/rerun", body)

    async def retry_all(self) -> list[str]:
        """End the pause of all jobs; returns their ids."""
        jobs: list[str] = (await self.call("POST", "/api/retry"))["jobs"]
        return jobs

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call. Raises `DaemonRefused` with the daemon's reason, or `DaemonUnreachable`."""
        if self._address is None:
            await self.needed()
        assert self._address is not None  # noqa: S101 - it was just found
        try:
            async with asyncio.timeout(CALL_WITHIN):
                status, plain = await self._exchange(self._address, method, path, body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise DaemonUnreachable(
                f"the daemon at {self._address.url} does not answer ({why}); is it running?"
            ) from None
        except ValueError:
            raise DaemonUnreachable(f"the program that answers at {self._address.url} is not a daemon") from None
        if status == 401:  # a daemon that has started again has the same port and another token
            before, self._address = self._address, None
            await self.needed()
            if self._address != before:
                return await self.call(method, path, body)
        if status >= 400:
            raise DaemonRefused(str(plain.get("error", f"HTTP {status}")), code=str(plain.get("code", "refused")))
        return plain

    async def _exchange(
        self, address: Address, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        data = None if body is None else orjson.dumps(body)
        async with self._session.request(
            method, address.url + path, data=data, headers=_headers(address), allow_redirects=False
        ) as response:
            return response.status, await _object_in(response)

    async def events(self, job: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """The events of one job, up to its outcome, or of all jobs without end.

        Reconnects after a restart of the daemon; raises `DaemonUnreachable` when that takes longer than `patience`.
        """
        path = "/api/events" if job is None else f"{_path_of(job)}/events"
        last_id, lost = "", 0.0
        while True:
            began = time.monotonic()
            try:
                async for number, plain in self._events(path, last_id):
                    last_id, lost = number, 0.0
                    yield plain
                    if job is not None and plain.get("event") in OUTCOME_KINDS:
                        return
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                pass  # disconnected; reconnect below
            now = time.monotonic()
            lost = now if not lost or now - began > self.patience else lost
            if now - lost > self.patience:
                raise DaemonUnreachable("the daemon answers, but its stream of events ends at once; start it again")
            await asyncio.sleep(_TRY_EVERY)
            while await self.look() is None:
                if time.monotonic() - lost > self.patience:
                    raise DaemonUnreachable(
                        "the daemon has stopped; its jobs are saved and continue when it is started again"
                    )
                await asyncio.sleep(_TRY_EVERY)

    async def _events(self, path: str, last_id: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        address = self._address
        if address is None:
            return
        headers = _headers(address) | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE)
        async with self._session.get(address.url + path, headers=headers, timeout=timeout) as response:
            if response.status != 200:
                plain = await _object_in(response)
                if response.status == 401:
                    return  # another daemon runs now: read its address again
                raise DaemonRefused(str(plain.get("error")), code=str(plain.get("code", "refused")))
            async for line in response.content:
                if line.startswith(b"id: "):
                    last_id = line[4:].decode().strip()
                elif line.startswith(b"data: "):
                    yield last_id, orjson.loads(line[6:])


async def _object_in(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The reply's JSON object; `ValueError` for anything else, and for a body that is too long."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MOST:
            raise ValueError("too long")
    return msgspec.json.decode(body, type=dict[str, Any])


def _path_of(job: str) -> str:
    return f"/api/jobs/{quote(job, safe='', errors='replace')}"


def _named(path: Path) -> str:
    whole = str(path.absolute())
    try:
        whole.encode()
    except UnicodeEncodeError:
        why = f"{path}: the name is not UTF-8, so the daemon cannot use it; rename it, or use --foreground"
        raise FileUnusable(why) from None
    return whole


def _headers(address: Address) -> dict[str, str]:
    return {"Authorization": f"Bearer {address.token}", "Content-Type": "application/json"}


@asynccontextmanager
async def open_daemon_client(state: Path | str | None) -> AsyncIterator[DaemonClient]:
    """A client of the daemon whose folder is `state` (see `discovery.folder`), while the block runs."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=1024 * 1024) as session:
        yield DaemonClient(daemon_address.folder(state), session)
