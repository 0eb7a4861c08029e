"""The worker's jobs with files in the depot: real HTTP to a bucket that fails, and a hub in the test's hands."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace as with_fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from msgspec.structs import replace

from tests.support.programs.hub_bench import HubBench
from tests.support.programs.nasty_bucket import NastyBucket, nasty_bucket
from wakestream.adapters.client import links
from wakestream.adapters.client.download import Partial
from wakestream.adapters.engines.command import LIPSYNC_KIND
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker import depot_work
from wakestream.adapters.worker.config import Retention
from wakestream.adapters.worker.program import make_room, removable
from wakestream.operators.model.events import FileRef
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.worker import state as w

LICENSE = "lic-7"


def named(content: bytes) -> str:
    return blake3(content).hexdigest()


CONTENT = {"video": os.urandom(700_001), "audio": os.urandom(30_000)}
EXT = {"video": ".mp4", "audio": ".wav"}
FILES = {name: FileRef(named(content), EXT[name]) for name, content in CONTENT.items()}
FILM = named(b"film")

ENDS = (m.Cancel(request_id="r1"), m.LicenseRevoked(license=LICENSE), d.DepotStored(request_id="r1"))


class Desk(HubBench):
    """A worker whose hub answers about the depot: fresh links to `query`, places to `offer`, `stored` to `delivered`.

    `holds`: it does not answer `delivered`.
    """

    def __init__(self, root: Path, bucket: NastyBucket, journal: FakeJournal[w.Kept] | None = None) -> None:
        super().__init__(root, journal)
        self.bucket, self.version, self.holds = bucket, 1, False
        self.given: dict[str, d.DepotFetch] = {}
        self.calls.readiness.kinds = (LIPSYNC_KIND,)
        self.link.on_send = self.answer
        bucket.news = self.changed
        bucket.kept |= {named(content): content for content in CONTENT.values()}

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when this holds; the end of a job is no event."""
        while not condition():
            self.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await self.changed.wait()

    def answer(self, message: m.Message) -> None:
        match message:
            case d.DepotQuery(request_id=job):
                self.version += 1
                given = self.given[job]
                self.say(replace(given, files=tuple(map(self.place, given.files))))
            case d.DepotOffer(request_id=job, files=files):
                self.say(d.DepotPlaces(request_id=job, files=tuple(map(self.place, files))))
            case d.DepotDelivered(request_id=job) if not self.holds:
                self.say(d.DepotStored(request_id=job))

    def place(self, file: d.DepotFile | d.DepotPlace) -> d.DepotPlace:
        url, have = self.bucket.link(file.blake3, self.version), file.blake3 in self.bucket.kept
        return d.DepotPlace(name=file.name, blake3=file.blake3, ext=file.ext, size=file.size, have=have, url=url)

    def say(self, message: m.Message) -> None:
        self.link.receive(message)

    def fetch(self, job: str = "r1", license_: str = LICENSE, **changes: Any) -> None:
        """The hub gives the worker this job, or new links for it."""
        payload = {f"{name}_{key}": getattr(ref, key) for name, ref in FILES.items() for key in ("hash", "ext")}
        files = tuple(
            self.place(d.DepotFile(name=name, blake3=ref.hash, ext=ref.ext, size=len(CONTENT[name])))
            for name, ref in FILES.items()
        )
        said = d.DepotFetch(request_id=job, task_type="submit", payload=payload, license=license_, files=files)
        self.given[job] = replace(said, **changes)
        self.say(self.given[job])

    async def rendering(self, job: str = "r1") -> None:
        """The hub gives the worker this job, and its engine is at work."""
        self.fetch(job)
        await self.until(lambda: self.statuses() == ["running"])

    async def forgotten(self) -> None:
        """The hub's part of the worker knows nothing of the license's jobs any more."""
        await self.until(lambda: not self.hub.depot.of(LICENSE))

    def steps(self) -> list[str]:
        """The steps that the worker reported to the hub, in order."""
        return list(dict.fromkeys(said.step for said in self.link.said(d.DepotProgress)))

    async def ended(self, job: str = "r1") -> d.DepotDelivered:
        """How the job ended."""
        await self.until(lambda: job in {said.request_id for said in self.link.said(d.DepotDelivered)})
        ends: list[d.DepotDelivered] = self.link.said(d.DepotDelivered)
        return [said for said in ends if said.request_id == job][-1]

    async def delivered(self, *jobs: str) -> None:
        """The results of these jobs are in the bucket, and the hub knows."""
        for job in jobs or ("r1",):
            end = await self.ended(job)
            assert (end.code, [file.blake3 for file in end.files]) == (None, [FILM])
        assert self.bucket.kept[FILM] == b"film"

    def asked(self, method: str, name: str = "") -> list[str]:
        """The ranges of these requests."""
        return [ranged for how, of, ranged in self.bucket.asked if how == method and of.startswith(name)]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (depot_work, links):
        monkeypatch.setattr(module, "AGAIN", with_fields(module.AGAIN, initial=0.001, max_delay=0.01))
    monkeypatch.setattr(depot_work, "TELL_EVERY", 0.001)


@pytest.fixture
async def bucket() -> AsyncIterator[NastyBucket]:
    async with nasty_bucket() as bucket:
        yield bucket


@asynccontextmanager
async def desk(
    root: Path, bucket: NastyBucket, journal: FakeJournal[w.Kept] | None = None, *, gate: bool = True
) -> AsyncIterator[Desk]:
    desk = Desk(root, bucket, journal)
    if gate:
        desk.engine.gate.set()
    try:
        await desk.queue.ready()
        desk.link.connect("grant", d.FEATURE, m.WorkerState.FEATURE)
        yield desk
    finally:
        await desk.close()


@pytest.fixture
async def here(tmp_path: Path, bucket: NastyBucket) -> AsyncIterator[Desk]:
    async with desk(tmp_path, bucket) as here:
        yield here


@pytest.fixture
async def gated(tmp_path: Path, bucket: NastyBucket) -> AsyncIterator[Desk]:
    """A worker whose engine waits for its gate."""
    async with desk(tmp_path, bucket, gate=False) as gated:
        yield gated


async def test_a_job_is_fetched_rendered_and_delivered_without_its_client(gated: Desk, bucket: NastyBucket) -> None:
    bucket.gate.clear()
    gated.fetch()
    await gated.until(lambda: "fetch" in gated.steps() and gated.transfers.open)  # the machine is in use
    bucket.gate.set()
    await gated.until(lambda: "render" in gated.steps())
    gated.engine.gate.set()
    await gated.delivered()
    assert gated.steps()[:1] == ["fetch"]
    (task,) = gated.queue.state.tasks.values()
    assert (task.owners, task.status) == ({("r1", LICENSE)}, "done")
    assert gated.queue.state.has(LICENSE, *FILES.values())
    (offer,) = gated.link.said(d.DepotOffer)
    assert offer.files == (d.DepotFile(name="video", blake3=FILM, ext=".mp4", size=4),)
    assert gated.transfers.moved == {"fetched": sum(map(len, CONTENT.values())), "delivered": 4}
    assert (await gated.ended()).task_id == task.id
    await gated.forgotten()


async def test_four_files_are_fetched_at_once_while_another_task_renders(gated: Desk, bucket: NastyBucket) -> None:
    await gated.rendering("first")
    bucket.gate.clear()
    bucket.most = 0
    for job in "abc":  # of three licenses: each shows its own files
        gated.fetch(job, job)
    await gated.until(
        lambda: bucket.running == 2
    )  # they have the same two files, which are fetched one after the other
    contents = [os.urandom(10) for _ in range(6)]
    bucket.kept |= {named(content): content for content in contents}
    for video, audio in zip(contents[::2], contents[1::2], strict=True):
        files = tuple(
            gated.place(d.DepotFile(name=name, blake3=named(content), ext=EXT[name], size=10))
            for name, content in (("video", video), ("audio", audio))
        )
        payload = {"video_hash": files[0].blake3, "audio_hash": files[1].blake3}
        gated.fetch(named(video), files=files, payload=payload)
    await gated.until(lambda: bucket.running == 4)
    bucket.gate.set()
    await gated.until(lambda: len(gated.queue.state.tasks) == 4)
    assert bucket.most == 4
    assert "running" in gated.statuses()


async def test_several_jobs_fetch_a_common_file_once(here: Desk, bucket: NastyBucket) -> None:
    bucket.gate.clear()
    here.fetch("r1")
    here.fetch("r2")
    here.fetch("r2")  # the hub repeats it
    await here.until(lambda: bucket.running == 2)
    bucket.gate.set()
    await here.delivered("r1", "r2")
    assert len(here.asked("GET")) == 2
    assert here.engine.runs == 1


async def test_a_file_of_another_license_is_fetched_for_this_one_too(here: Desk, bucket: NastyBucket) -> None:
    here.fetch("r1", "rich")
    await here.delivered("r1")
    bucket.faults.append(bucket.lies)
    here.fetch("r2", "thief")  # a bucket may have other bytes under the name of a file that the thief knows
    await here.delivered("r2")
    assert len(here.asked("GET")) == 5


@pytest.mark.parametrize(
    ("faults", "links", "asks"),
    [
        ("cut cut", None, 0),
        ("cut cut", 2, 1),
        ("cut cut ignores_ranges ignores_ranges", None, 0),
        ("slow_down " * 5, None, 1),
    ],
    ids=["cut", "expired", "from the start", "overloaded"],
)
async def test_a_fetch_that_a_depot_breaks_off_goes_on_with_fresh_links_behind_the_last_byte(
    here: Desk, bucket: NastyBucket, monkeypatch: pytest.MonkeyPatch, faults: str, links: int | None, asks: int
) -> None:
    takes, taken = Partial.write, set[str]()

    async def noted(partial: Partial, chunk: bytes | memoryview) -> None:
        await takes(partial, chunk)
        taken.add(partial.output.stem)

    monkeypatch.setattr(Partial, "write", noted)
    bucket.taken = lambda name: here.until(lambda: name in taken)
    bucket.faults += [getattr(bucket, name) for name in faults.split()]
    bucket.first = links or bucket.first
    here.fetch()
    await here.delivered()
    assert any(here.asked("GET", FILES["video"].hash)) is ("cut" in faults), "ranges"
    assert here.version > asks


async def test_other_bytes_than_named_are_fetched_once_more_and_then_the_file_is_lost(
    here: Desk, bucket: NastyBucket
) -> None:
    bucket.kept[FILES["video"].hash] = CONTENT["video"][::-1]
    here.fetch()
    end = await here.ended()
    assert end.code == depot_work.GONE
    assert "'video'" in (end.reason or "")
    assert [file.blake3 for file in end.files] == [FILES["video"].hash]
    assert len(here.asked("GET", FILES["video"].hash)) == 2
    assert not here.store.has(FILES["video"])
    assert not here.queue.state.has(LICENSE, FILES["video"])


async def test_a_file_that_the_depot_lacks_is_asked_for_as_long_as_the_hub_wants_the_job(
    here: Desk, bucket: NastyBucket
) -> None:
    audio = FILES["audio"].hash
    del bucket.kept[audio]
    here.fetch()
    await here.until(lambda: len(here.asked("GET", audio)) > 5)
    assert len(here.link.said(d.DepotQuery)) > 4
    assert not here.queue.state.tasks
    bucket.kept[audio] = CONTENT["audio"]
    await here.delivered()


@pytest.mark.parametrize("at", ["fetch", "deliver"])
async def test_a_job_whose_fresh_links_are_all_refused_is_given_back(gated: Desk, bucket: NastyBucket, at: str) -> None:
    bucket.first = 1_000_000 if at == "fetch" else 1
    gated.fetch()
    if at == "deliver":
        await gated.until(lambda: gated.statuses() == ["running"])
        bucket.first = 1_000_000
        gated.engine.gate.set()
    end = await gated.ended()
    assert end.code == depot_work.REFUSED
    assert "answered HTTP 403 AccessDenied" in (end.reason or "")
    assert len(gated.link.said(d.DepotOffer)) == (0 if at == "fetch" else depot_work.MOST_REFUSED + 1)


async def test_a_restarted_worker_goes_on_with_a_file_that_it_has_in_part(tmp_path: Path, bucket: NastyBucket) -> None:
    journal = FakeJournal[w.Kept]()
    async with desk(tmp_path, bucket, journal) as here:
        bucket.faults += [bucket.cut, bucket.cut, *[bucket.slow_down] * 1000]
        here.fetch()
        await here.until(lambda: len(bucket.asked) > 4)
    bucket.faults.clear()
    bucket.asked.clear()
    async with desk(tmp_path, bucket, journal) as here:
        here.fetch()
        await here.delivered()
        assert here.asked("GET", FILES["video"].hash)[0]


async def test_a_restarted_worker_delivers_a_finished_task_without_its_files_and_renders_nothing(
    tmp_path: Path, bucket: NastyBucket
) -> None:
    journal = FakeJournal[w.Kept]()
    async with desk(tmp_path, bucket, journal) as here:
        bucket.faults += [bucket.slow_down] * 2
        here.holds = True
        here.fetch()
        await here.ended()
    for ref in FILES.values():
        here.store.path(ref).unlink()
    bucket.asked.clear()
    async with desk(tmp_path, bucket, journal) as here:
        here.fetch()
        await here.delivered()
        assert (here.engine.runs, bucket.asked) == (0, [])


async def test_a_full_disk_pauses_the_worker_until_there_is_room(here: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=1000, total=2**40)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    here.fetch()
    await here.until(lambda: any(said.state == "paused" for said in here.link.said(m.WorkerState)))
    paused = [said for said in here.link.said(m.WorkerState) if said.state == "paused"]
    assert "needs 700001 bytes" in (paused[0].reason or "") or "needs 30000 bytes" in (paused[0].reason or "")
    usage.free = 2**30
    await here.delivered()
    assert here.link.said(m.WorkerState)[-1].state == "ready"


async def test_a_file_that_no_disk_of_this_size_can_hold_ends_the_job(
    here: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000, total=1000))
    here.fetch()
    assert (await here.ended()).code == "too_large"


async def test_files_that_nothing_needs_make_room_before_a_fetch(here: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    here.fetch()
    await here.delivered()
    await here.forgotten()
    now = time.time()
    # The depot has them, so they may be removed at once: an hour is promised only to those who use them.
    assert await removable(here.store, here.queue, now) >= sum(map(len, CONTENT.values()))
    here.store.claim(FILES["audio"])
    assert await removable(here.store, here.queue, now) < sum(map(len, CONTENT.values()))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10, total=2**40))
    here.store.make_room = lambda size: make_room(here.store, here.queue, Retention(), size, now)
    await here.store.room_for(FileRef(named(b""), ".mp4"), 100)
    assert not here.store.has(FILES["video"])
    assert here.store.has(FILES["audio"])


@pytest.mark.parametrize("by", ENDS)
async def test_a_fetch_ends_with_its_job(here: Desk, bucket: NastyBucket, by: m.Message) -> None:
    bucket.gate.clear()
    here.fetch()
    await here.until(lambda: bucket.running == 2)
    here.say(by)
    await here.until(lambda: not here.transfers.open)
    assert not here.hub.depot.of(LICENSE)
    bucket.gate.set()
    here.fetch()  # it was given to this GPU again
    await here.delivered()


async def test_a_job_of_which_the_hub_knows_nothing_any_more_ends(here: Desk) -> None:
    here.holds = True
    here.fetch()
    await here.delivered()
    here.say(m.Error(request_id="r1", code="forbidden", msg="this job is not this worker's"))
    await here.forgotten()


@pytest.mark.parametrize("by", ENDS)
async def test_a_render_ends_with_its_job(gated: Desk, by: m.Message) -> None:
    await gated.rendering()
    gated.say(by)
    await gated.until(lambda: gated.statuses() == ["cancelled"])
    await gated.forgotten()
    assert not gated.link.said(d.DepotDelivered)


async def test_a_hub_that_is_lost_during_the_render_gets_the_results_when_it_is_back(gated: Desk) -> None:
    await gated.rendering()
    gated.link.disconnect()
    gated.engine.gate.set()
    await gated.until(lambda: gated.statuses() == ["done"])
    gated.link.connect("grant", d.FEATURE)
    gated.fetch()
    await gated.delivered()


async def test_delivered_is_repeated_at_each_connection_until_it_is_on_record(here: Desk) -> None:
    here.holds = True
    here.fetch()
    await here.delivered()
    for count in (2, 3):
        here.link.disconnect()
        here.link.connect("grant", d.FEATURE)
        await here.until(lambda: len(here.link.said(d.DepotDelivered)) == count)  # noqa: B023
    here.fetch()  # also when the hub asks
    await here.until(lambda: len(here.link.said(d.DepotDelivered)) == 4)
    here.say(d.DepotStored(request_id="r1"))
    await here.forgotten()
    assert here.engine.runs == 1


async def test_results_that_the_hub_does_not_find_in_the_depot_are_put_again(here: Desk, bucket: NastyBucket) -> None:
    here.holds = True
    bucket.faults.clear()
    here.fetch()
    await here.delivered()
    del bucket.kept[FILM]
    here.holds = False
    here.answer(here.link.said(d.DepotOffer)[-1])
    await here.forgotten()
    assert bucket.kept[FILM] == b"film"


async def test_a_result_is_offered_again_when_its_link_expires_or_the_depot_is_overloaded(
    gated: Desk, bucket: NastyBucket
) -> None:
    await gated.rendering()
    bucket.faults += [bucket.slow_down] * 7
    bucket.first = 2
    gated.engine.gate.set()
    await gated.until(lambda: len(gated.link.said(d.DepotOffer)) >= 3)
    gated.version = 2
    await gated.delivered()


async def test_a_depot_that_goes_on_refusing_the_results_ends_the_job(
    here: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depot_work, "MOST_OFFERS", 3)
    full = d.DepotPlaces(request_id="r1", code="full", reason="the depot is full")
    here.link.on_send = lambda message: here.say(full) if isinstance(message, d.DepotOffer) else None
    here.fetch()
    end = await here.ended()
    assert (end.code, end.reason, len(here.link.said(d.DepotOffer))) == ("full", "the depot is full", 4)
    assert here.statuses() == ["done"]


async def test_a_job_that_its_client_submits_too_is_one_task(gated: Desk) -> None:
    await gated.rendering()
    spec = gated.calls.fitting(w.pair(*FILES.values()), "r1")
    task = await gated.queue.ask(spec, "r1", LICENSE)
    gated.engine.gate.set()
    await gated.delivered()
    assert (list(gated.queue.state.tasks), gated.engine.runs) == ([task.id], 1)


async def test_a_job_that_wants_its_own_result_is_rendered_for_itself(here: Desk) -> None:
    here.fetch("r1")
    await here.delivered("r1")
    here.fetch("r2", again=True)
    await here.delivered("r2")
    assert here.engine.runs == 2


async def test_a_job_that_the_engine_cannot_do_is_refused_before_its_files_are_fetched(
    here: Desk, bucket: NastyBucket
) -> None:
    here.fetch(payload={"kind": "paint", "inputs": {}, "outputs": ["image"]})
    end = await here.ended()
    assert (end.code, "no kind 'paint'" in (end.reason or "")) == ("wrong_input", True)
    assert not bucket.asked


async def test_a_failed_render_ends_the_job_with_its_reason(here: Desk) -> None:
    here.engine.fail = True
    here.fetch()
    end = await here.ended()
    assert (end.code, end.reason) == ("task_failed", "no sound")


async def test_a_job_waits_for_an_engine_that_is_still_starting(here: Desk) -> None:
    here.calls.readiness.kinds = ()
    here.fetch()
    await here.until(lambda: "fetch" in here.steps())
    assert not here.queue.state.tasks
    here.calls.readiness.kinds = (LIPSYNC_KIND,)
    await here.delivered()


async def test_progress_is_told_at_most_once_in_its_interval(here: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depot_work, "TELL_EVERY", 3600.0)
    here.fetch()
    await here.delivered()
    assert len(here.link.said(d.DepotProgress)) == 1
