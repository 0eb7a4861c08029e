"""A client that stores the files of a job in the depot, goes, and later fetches the results."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.programs.depot_scene import named
from tests.support.programs.our_peers import Place, until
from wakestream.adapters.client.depot import DepotWallet, get, put
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.net.hub_link import Link
from wakestream.operators.model.events import Fingerprint
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.jobs.hub_client import FEATURES
from wakestream.streams.jobs.hub_replies import places_of
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m


class Client:
    """A client that stores the files of a job, and later fetches its results."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.folder, self.session, self.wallet = folder, HttpWorkers(), DepotWallet()
        register = m.Register(key=place.keys["client"], device_type="pc", features=(*FEATURES, d.FEATURE))
        self.link = Link(place.hub_url, lambda: register)
        self.link.events.subscribe(self.wallet.feed)
        self.heard: list[Any] = []
        self.link.events.subscribe(self.heard.append)

    async def first(self, *kinds: type, **fields: Any) -> Any:
        """The first of these kinds with these fields that came over the link."""

        def found() -> list[Any]:
            said = [item for item in self.heard if isinstance(item, kinds)]
            return [item for item in said if all(getattr(item, name) == value for name, value in fields.items())]

        await until(found)
        return found()[0]

    async def store(self, job: str, **contents: bytes) -> None:
        """Submit the job, and put its files into the depot."""
        await self.first(LinkUp)
        payload = {f"{name}_ext": f".{name}" for name in contents}
        self.link.send(m.Submit(request_id=job, task_type="submit", payload=payload))
        await self.first(m.Offline, m.JobQueued)
        files, paths = [], {}
        for name, content in contents.items():
            path = paths[name] = self.folder / f"{job}.{name}"
            path.write_bytes(content)
            files.append(d.DepotFile(name=name, blake3=named(content), ext=f".{name}", size=len(content)))
        self.link.send(d.DepotOffer(request_id=job, files=tuple(files)))
        places = await self.first(d.DepotPlaces, code=None, request_id=job)
        for place in places_of(places):
            path = paths[place.file.name]
            status = path.stat()
            file = Fingerprint(path, status.st_size, status.st_mtime_ns, {"blake3": place.file.blake3})
            async with aclosing(put(self.session, self.wallet, file, place)) as totals:
                async for _ in totals:
                    pass
        self.link.send(d.DepotStored(request_id=job))
        await self.first(d.DepotStored, request_id=job)

    async def results(self, job: str) -> list[bytes]:
        """What the hub has of the job."""
        await self.first(LinkUp)
        self.link.send(d.DepotQuery(request_id=job))
        delivered = await self.first(d.DepotDelivered, request_id=job)
        assert (delivered.code, delivered.reason) == (None, None)
        found = []
        for place in places_of(delivered):
            partial = self.session.partial(place.file.blake3, self.folder / f"{job}.{place.file.name}.made")
            async with aclosing(get(self.session, self.wallet, place, partial)) as steps:
                async for _ in steps:
                    pass
            found.append(partial.output.read_bytes())
        self.link.send(m.JobDone(request_id=job))
        return found


@asynccontextmanager
async def client(place: Place, folder: Path) -> AsyncIterator[Client]:
    client = Client(place, folder)
    try:
        yield client
    finally:
        await client.link.close()
        await client.session.close()
