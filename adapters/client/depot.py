"""Files to and from the depot: by links to a bucket, or by the calls of a worker at our own depot."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wakestream.adapters.client import links
from wakestream.adapters.client.download import Partial, kept, received
from wakestream.adapters.client.worker import PROOF, HttpWorker, HttpWorkers
from wakestream.adapters.client.worker_calls import REMEMBERED, Wallet
from wakestream.adapters.runtime.recent import Recent
from wakestream.operators.model import errors as e
from wakestream.operators.model.depot import Depot, Place
from wakestream.operators.model.events import Done, Downloading, FileRef, Fingerprint, Job, Note
from wakestream.operators.model.ports import Output, Resumed
from wakestream.streams.protocol import depot_messages as d

FEATURES: Final = frozenset({"blake3", "range", "tus", "capability", PROOF})
"""What each depot of ours can do: it is not asked before."""

PLAIN: Final = ".bin"
"""The ending that files without one have in our own depot."""

_CODES: Final[Mapping[str, str]] = {"not_found": "lost", "no_space": "full"}


class DepotWallet(Wallet):
    """The latest permission of each job at our own depot."""

    def feed(self, event: object) -> None:
        """One event of the link to the hub."""
        match event:
            case d.DepotPlaces() | d.DepotDelivered() | d.DepotFetch() if event.capability and event.expires:
                self._hold(event.request_id, event.capability, event.expires)


async def put(
    session: HttpWorkers, wallet: Wallet, file: Fingerprint, place: Place
) -> AsyncGenerator[int | Resumed, None]:
    """Send a file to the depot; see `Depot.put`.

    Args:
        session: Makes the requests.
        wallet: The permissions for our own depot.
        file: The file.
        place: Where it is put.

    Yields:
        How many bytes the depot has.

    Raises:
        LinkExpired: Ask for a new place.
        DepotError: It is down or full, see `DepotError`.
        FileChanged: The file changed after it was hashed.
    """
    if place.depot is None:
        steps: AsyncIterator[int | Resumed] = links.put(session, file, place)
    else:
        calls = _calls(session, wallet, place, place.depot)
        steps = calls.upload(file, FileRef(place.file.blake3, place.file.ext or PLAIN))
    with _errors():
        async with aclosing(steps) as totals:  # type: ignore[type-var]
            async for total in totals:
                yield total


async def get(
    session: HttpWorkers, wallet: Wallet, place: Place, partial: Partial
) -> AsyncGenerator[Downloading, None]:
    """Fetch a file from the depot into `partial`, whose output appears when it is complete and verified.

    Args:
        session: Makes the requests.
        wallet: The permissions for our own depot.
        place: Where it is.
        partial: Receives it. What an earlier attempt left is continued.

    Yields:
        The progress.

    Raises:
        LinkExpired: Ask for a new place.
        DepotError: It is down, or has no such file.
        Corrupt: The file was cut, or is damaged.
        FileError: The disk cannot store it.
    """
    if place.depot is None:
        steps = links.get(session, place, partial)
    else:
        body = _body(_calls(session, wallet, place, place.depot), place, partial)
        steps = kept(partial, body, session.idle, resumable=True)
    with _errors():
        async with aclosing(steps) as progress:
            async for step in progress:
                yield step


async def _body(calls: HttpWorker, place: Place, partial: Partial) -> AsyncGenerator[Downloading, None]:
    params = {"hash": place.file.blake3, "ext": place.file.ext or PLAIN}
    async with aclosing(received(calls, "file", params, partial)) as steps:
        async for step in steps:
            yield step
    if partial.expected != place.file.blake3:
        partial.etag = None
        raise e.Corrupt("the depot sent another file than the one that was asked for", code=e.DAMAGED)


def _calls(session: HttpWorkers, wallet: Wallet, place: Place, url: str) -> HttpWorker:
    if wallet.of(place.job) is None:
        raise e.LinkExpired("the permission for the depot has expired; the hub is asked for another")
    return session.at(url, place.job, wallet, {session.resolve(url): FEATURES})


@contextmanager
def _errors() -> Iterator[None]:
    """Turns the errors of a worker's calls into those of a depot."""
    try:
        yield
    except e.WorkerUnreachable as error:
        raise e.DepotError(_said(error), code="down") from None
    except e.WorkerRefused as error:
        if error.code in ("unauthorized", "forbidden"):
            raise e.LinkExpired("the depot does not accept this permission; the hub is asked for another") from None
        raise e.DepotError(_said(error), code=_CODES.get(error.code, error.code)) from None


def _said(error: Exception) -> str:
    return str(error).replace("the worker", "the depot")


@dataclass(slots=True)
class HttpDepot(Depot):
    """Implements the port `Depot` for one job.

    Example:
        >>> World(hub, workers, files, random, depot=HttpDepot(http, wallet, job))

    Args:
        session: Makes the requests of all jobs.
        wallet: The permissions for our own depot.
        job: The job.
    """

    session: HttpWorkers
    wallet: Wallet
    job: Job
    placed: Recent[tuple[str, Path], Path] | None = None

    def put(self, file: Fingerprint, place: Place) -> AsyncIterator[int | Resumed]:
        """See `Depot.put`."""
        return put(self.session, self.wallet, file, place)

    def get(self, place: Place, output: Path) -> AsyncIterator[Downloading | Note | Done]:
        """See `Depot.get`. A further file of a list replaces no other file."""
        file, named = place.file, output in self.job.outputs.values()
        made = None if named else Output(file.name, file.ext, file.size, file.blake3)
        job = self.job if named else None
        if self.placed is None:
            self.placed = Recent(REMEMBERED)
        return self.session.fetched(
            file.blake3, output, made, job, self.placed, lambda partial: get(self.session, self.wallet, place, partial)
        )
