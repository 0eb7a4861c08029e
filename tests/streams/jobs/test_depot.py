"""A job by way of the depot: what goes there while it waits, what each fault leads to, and that links are in no log."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.streams.daemon_scene import House
from tests.support.streams.depot_hub import FEATURES, RESULT, DepotHub, delivered, said
from tests.support.streams.job_scene import OURS, Scene, ack, offline
from wakestream.adapters.testing.fakes import FakeDepot
from wakestream.adapters.testing.harness import PipelineHarness, asleep
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.depot import Place
from wakestream.operators.model.errors import DepotError, LinkExpired
from wakestream.operators.rx.then import then
from wakestream.operators.stages.depot import ASK_EVERY
from wakestream.streams.jobs.daemon_pipeline import MAX_LOST_TASKS
from wakestream.streams.jobs.stages import Stages, pipeline
from wakestream.streams.jobs.turn_stages import LaneLimits
from wakestream.streams.jobs.world import Events
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.secrets import redact
from wakestream.streams.replay.divergence import divergences
from wakestream.streams.replay.replay import replay


class DepotScene(Scene):
    """The GPU is off, and the hub has a depot."""

    def __init__(self, features: tuple[str, ...] = FEATURES, depot: FakeDepot | None = None) -> None:
        self.depot: FakeDepot = depot or FakeDepot()
        super().__init__(offline, features=features, depot=self.depot)
        self.town = DepotHub(self.depot, lambda submit: self.answer(submit))
        self.connect()

    def reply(self, message: m.Message) -> m.Message | None:
        """What the hub says to a frame."""
        return self.town.answer(message)

    def finish(self, **how: object) -> None:
        """The results are in the depot."""
        self.town.result = how
        self.link.receive(delivered("job-1", **how))

    def grant(self) -> None:
        """A GPU takes the files from here."""
        self.link.receive(ack(m.Submit(request_id="job-1", task_type="", payload={})))

    async def done(self, moment: float, happens: Callable[..., object], *arguments: object) -> None:
        """The job is done, when this has happened at this moment."""
        self.at(moment, happens, *arguments)
        assert isinstance(await self.run(), e.Done)

    @property
    def notes(self) -> list[str]:
        return [note.text for note in self.of(e.Note)]


@pytest.fixture
async def scene() -> DepotScene:
    return DepotScene()


async def test_the_files_go_to_the_depot_while_the_job_waits_and_the_hub_does_the_rest(scene: DepotScene) -> None:
    steps = (d.DepotProgress(request_id="job-1", step=step, percent=50.0, gpu="a") for step in ("fetch", "render"))
    for moment, step in zip((100.0, 110.0), steps, strict=True):
        scene.at(moment, scene.link.receive, step)
    scene.at(120.0, scene.finish)
    assert await scene.run() == e.Done(scene.job.output, 1000)
    assert [step.bytes for step in scene.of(e.Storing)][-1] == 1500
    assert scene.of(e.Stored) == [e.Stored(1500, 1000)]
    assert scene.of(e.Remote) == [e.Remote("fetch", 50.0, "a"), e.Remote("render", 50.0, "a")]
    assert scene.of(e.Delivered) == [e.Delivered(1000, "a")]
    assert scene.of(e.Granted) == []
    assert said(scene.link) == ["job.submit", "depot.offer", "depot.stored", "depot.query", "job.done"]
    offered = scene.link.said(d.DepotOffer)[0].files
    assert [(file.name, file.ext, file.size) for file in offered] == [("video", ".mp4", 1000), ("audio", ".wav", 500)]


async def test_the_same_content_under_two_endings_is_two_files_there(scene: DepotScene) -> None:
    scene.files.files[Path("speech.wav")] = b"v" * 1000
    await scene.done(50.0, scene.finish)
    assert {ref.ext for ref in scene.depot.said("upload") if isinstance(ref, e.FileRef)} == {".mp4", ".wav"}
    assert scene.of(e.Stored) == [e.Stored(2000, 1000)]


async def test_a_gpu_that_is_on_gets_the_files_directly() -> None:
    scene = DepotScene()
    scene.answer = ack
    assert isinstance(await scene.run(), e.Done)
    assert said(scene.link) == ["job.submit", "job.done"]
    assert scene.depot.calls == []


@pytest.mark.parametrize("lacks", ["the hub", "the client", "room for a secret parameter", "a usual ending", "a stage"])
async def test_without_a_depot_nothing_changes(lacks: str) -> None:
    scene = DepotScene(OURS if lacks == "the hub" else FEATURES)
    if lacks == "the client":
        scene.depot = None  # type: ignore[assignment]
    if lacks == "room for a secret parameter":
        scene.job = replace(scene.job, kind="upscale", params={"token": "[redacted] 1234"})
        scene.features = (*FEATURES, e.INPUTS)
        scene.connect()
    if lacks == "a usual ending":
        scene.files.files[Path("clip.mp4~")] = b"v" * 1000
        scene.job = replace(scene.job, inputs={**scene.job.inputs, "video": Path("clip.mp4~")})
    if lacks == "a stage":
        scene.build = pipeline(direct)
    await scene.done(50.0, scene.grant)
    has_one = lacks not in ("the hub", "the client")
    assert said(scene.link) == ["job.submit", *(["depot.withdraw"] if has_one else []), "job.done"]


def direct(s: Stages) -> Events:
    return s.submit().pipe(then(s.online, s.dedupe, s.upload, s.synthesize, s.follow, s.download))


async def test_the_upload_is_not_restarted_by_what_the_hub_says_meanwhile(scene: DepotScene) -> None:
    scene.depot.delays["upload"] = 20.0
    for moment, state in ((5.0, "starting"), (10.0, "booted")):
        scene.at(moment, scene.link.receive, m.PowerState(gpu="a", state=state))
    scene.at(12.0, scene.link.receive, m.Offline(request_id="job-1", phase="booting", position=2))
    await scene.done(60.0, scene.finish)
    assert len(scene.depot.said("upload")) == 2
    assert "starting" in {line.phase for line in scene.of(e.Waking)}


async def test_a_new_connection_in_the_upload_repeats_the_offer_and_sends_no_file_again(scene: DepotScene) -> None:
    scene.depot.delays["upload"] = 20.0
    scene.at(5.0, scene.link.disconnect)
    scene.at(10.0, scene.connect)
    await scene.done(60.0, scene.finish)
    assert len(scene.depot.said("upload")) == 2
    assert said(scene.link, d.DepotProgress)[:5] == [
        "job.submit",
        "depot.offer",
        "job.submit",
        "depot.offer",
        "depot.stored",
    ]


async def test_the_hub_is_told_how_far_the_upload_is() -> None:
    scene = DepotScene(depot=Slow())
    await scene.done(60.0, scene.finish)
    told = [(progress.left, progress.rate) for progress in scene.link.said(d.DepotProgress)]
    assert told[0] == (1350, pytest.approx(100, rel=0.01))  # not less for the time before the first bytes
    assert told[1][1] == pytest.approx(100, rel=0.1)
    assert [left for left, _ in told] == sorted((left for left, _ in told), reverse=True)
    assert len(told) <= 10


class Slow(FakeDepot):
    """50 bytes a second for each file."""

    async def put(self, file: e.Fingerprint, place: Place) -> AsyncGenerator[int, None]:
        for at in range(50, file.size + 1, 50):
            await asyncio.sleep(1.0)
            yield at
        self.known.add(place.file.blake3)


@pytest.mark.parametrize("code", ["no_depot", "down", "full", "quota", "too_large", "unsupported", "unknown_job"])
async def test_a_depot_that_the_hub_cannot_use_is_said_in_one_line_and_the_job_goes_the_direct_way(
    scene: DepotScene, code: str
) -> None:
    scene.town.refused = code
    await scene.done(50.0, scene.grant)
    direct = "the files go straight to the GPU machine, so this PC must stay on"
    assert scene.notes == [f"the depot is not used: this depot is {code}; {direct}"]
    assert said(scene.link) == ["job.submit", "depot.offer", "depot.withdraw", "job.done"]


FAILS: dict[str, Callable[[DepotScene], object]] = {
    "it is full": lambda scene: setattr(scene.depot, "gone", DepotError("507", code="full")),
    "the line breaks": lambda scene: setattr(scene.depot, "gone", errors.WorkerUnreachable("reset")),
    "it refuses": lambda scene: setattr(scene.depot, "gone", errors.WorkerRefused("no")),
    "it takes no byte": lambda scene: scene.depot.delays.update(upload=1000.0),
    "it loses all": lambda scene: setattr(scene.depot, "known", Leaky()),
    "the hub answers no offer": lambda scene: setattr(scene.town, "deaf", True),
}


class Leaky(set[str]):
    """Nothing stays in it."""

    def add(self, _: str) -> None:
        """Lose it."""


@pytest.mark.parametrize("fault", FAILS)
async def test_where_the_depot_fails_or_is_silent_for_the_idle_time_the_files_go_the_direct_way(
    scene: DepotScene, fault: str
) -> None:
    FAILS[fault](scene)
    scene.at(100.0, scene.grant)
    assert isinstance(await scene.run(transfer=30.0), e.Done)
    (at,) = scene.when(e.Note)
    assert (round(at) == 30) == (fault in ("it takes no byte", "the hub answers no offer"))
    assert len(scene.link.said(d.DepotWithdraw)) == 1


async def test_after_a_lost_connection_the_depot_is_tried_again(scene: DepotScene) -> None:
    scene.depot.gone = errors.WorkerUnreachable("no network")
    scene.at(0.5, scene.link.disconnect)
    scene.at(100.0, setattr, scene.depot, "gone", None)
    scene.at(100.0, scene.connect)
    await scene.done(150.0, scene.finish)
    assert scene.notes == []
    assert len(scene.of(e.Stored)) == 1


async def test_an_expired_link_is_asked_for_again(scene: DepotScene) -> None:
    scene.depot.failures["upload"] = [LinkExpired("over")]
    await scene.done(50.0, scene.finish)
    assert said(scene.link)[:4] == ["job.submit", "depot.offer", "depot.offer", "depot.stored"]
    assert scene.notes == []


async def test_a_file_that_is_missing_after_all_is_sent_again(scene: DepotScene) -> None:
    scene.depot.delays["upload"] = 1.0
    scene.at(1.02, scene.depot.known.clear)  # just when all is there
    await scene.done(50.0, scene.finish)
    assert said(scene.link, d.DepotProgress)[1:4] == ["depot.offer", "depot.stored", "depot.stored"]


async def test_a_file_that_changes_ends_the_job_as_in_the_direct_way(scene: DepotScene) -> None:
    scene.depot.failures["upload"] = [errors.FileChanged("clip.mp4 was changed")]
    assert await scene.run() == e.Failed("clip.mp4 was changed", "file_changed")


async def test_an_upload_may_take_longer_than_the_wait_for_a_gpu() -> None:
    scene = DepotScene(depot=Slow())
    scene.at(50.0, scene.finish)
    assert isinstance(await scene.run(online=5.0), e.Done)


async def test_a_grant_in_the_upload_ends_it(scene: DepotScene) -> None:
    scene.depot.delays["upload"] = 20.0
    await scene.done(5.0, scene.grant)
    assert scene.of(e.Stored) == []
    assert len(scene.worker.said("upload")) == 2


async def test_a_stored_job_that_a_gpu_without_the_feature_takes_goes_the_direct_way(scene: DepotScene) -> None:
    await scene.done(50.0, scene.grant)
    assert (len(scene.of(e.Stored)), len(scene.of(e.Granted))) == (1, 1)
    assert len(scene.worker.said("upload")) == 2


UNKNOWN = m.Error(code="unknown_job", msg="no job of this license with that request_id", request_id="job-1")
FORGOTTEN: dict[str, tuple[int, Callable[[DepotScene], object]]] = {
    "its files": (4, lambda scene: (scene.depot.known.clear(), scene.link.receive(scene.town.places("job-1")))),
    "the job": (2, lambda scene: scene.link.receive(UNKNOWN)),
    "its results": (2, lambda scene: scene.link.receive(delivered("job-1"))),
}
"""What depot or hub do not have any more, and how many files are sent until the job is done."""


@pytest.mark.parametrize("what", FORGOTTEN)
async def test_a_stored_job_of_which_something_is_forgotten_is_stored_again(scene: DepotScene, what: str) -> None:
    sent, forget = FORGOTTEN[what]
    scene.town.unknown = d.DepotPlaces(request_id="job-1", code="unknown_job", reason="the hub has no such job")
    scene.at(50.0, lambda: (scene.town.stored.clear(), forget(scene)))
    await scene.done(90.0, scene.finish)
    assert (len(scene.of(e.Stored)), len(scene.depot.said("upload"))) == (2, sent)


async def test_after_a_lost_connection_a_stored_job_asks_what_became_of_it(scene: DepotScene) -> None:
    scene.at(50.0, scene.link.disconnect)
    scene.at(55.0, setattr, scene.town, "result", {})
    scene.at(70.0, scene.connect)
    assert isinstance(await scene.run(), e.Done)
    assert said(scene.link)[3:] == ["job.submit", "depot.query", "depot.query", "job.done"]
    assert {line.phase for at, line in scene.events if isinstance(line, e.Waking) and at > 50} == {"hub_lost"}


async def test_a_delivery_that_did_not_come_is_asked_for(scene: DepotScene) -> None:
    await scene.done(50.0, setattr, scene.town, "result", {})
    assert 50 < scene.events[-1][0] < 50 + ASK_EVERY


async def test_work_that_fails_ends_the_job_with_its_reason(scene: DepotScene) -> None:
    scene.at(50.0, lambda: scene.finish(files=(), code="task_failed", reason="the video has no face"))
    assert await scene.run() == e.Failed("the video has no face", "task_failed")


async def test_a_result_whose_link_expires_is_fetched_with_a_new_one(scene: DepotScene) -> None:
    scene.depot.failures["download"] = [LinkExpired("over")]
    await scene.done(50.0, scene.finish)
    assert len(scene.link.said(d.DepotQuery)) == 2


async def test_results_that_cannot_be_written_here_stay_in_the_depot(scene: DepotScene) -> None:
    scene.depot.failures["download"] = [errors.FileUnusable("out.mp4 cannot be written")]
    scene.at(50.0, scene.finish)
    assert await scene.run() == e.Failed("out.mp4 cannot be written", "file_unusable")
    assert said(scene.link)[-1] == "depot.query"
    again = DepotScene()
    again.town = scene.town
    assert isinstance(await again.run(), e.Done)


async def test_results_that_the_depot_has_spoiled_are_given_up_so_that_they_are_made_or_put_again(
    scene: DepotScene,
) -> None:
    spoiled = errors.Corrupt("the file's BLAKE3 differs", code=errors.DAMAGED)
    scene.depot.failures["download"] = [spoiled] * 100
    scene.at(50.0, scene.finish)
    assert await scene.run() == e.Failed("the file's BLAKE3 differs", "damaged")
    assert said(scene.link)[-1] == "job.cancel"


async def test_several_results_are_fetched_with_one_question(scene: DepotScene) -> None:
    outputs = {name: scene.job.output.with_name(name) for name in ("video", "mask")}
    scene.job = replace(scene.job, outputs=outputs)
    scene.connect()
    mask = d.DepotPlace(name="mask", blake3="e" * 64, ext=".png", size=1000, have=True)
    scene.features = (*FEATURES, e.INPUTS)
    scene.connect()
    scene.at(50.0, lambda: scene.finish(files=(RESULT, mask)))
    done = await scene.run()
    assert isinstance(done, e.Done)
    assert [file.name for file in done.files] == ["video", "mask"]
    assert len(scene.link.said(d.DepotQuery)) == 1


@pytest.mark.parametrize("state", ["stored", "delivered"])
async def test_a_program_that_comes_back_stores_nothing_again_and_fetches_once(scene: DepotScene, state: str) -> None:
    scene.town.stored.add("job-1")
    if state == "delivered":
        scene.town.result = {}
    else:
        scene.at(50.0, scene.finish)
    assert isinstance(await scene.run(), e.Done)
    assert scene.depot.said("upload") == []
    assert len(scene.depot.said("download")) == 1
    assert len(scene.of(e.Stored)) == (state == "stored")


@pytest.mark.parametrize("moment", [0.5, 50.0])
async def test_a_cancel_reaches_the_hub_in_each_state(scene: DepotScene, moment: float) -> None:
    scene.depot.delays["upload"] = 20.0
    scene.at(moment, scene.cancel.on_next, None)
    assert isinstance(await scene.run(), e.Cancelled)
    assert said(scene.link)[-1] == "job.cancel"


class DepotHarness(PipelineHarness):
    """A recorded client with a depot."""

    def __init__(self) -> None:
        self.depot = FakeDepot()
        self.town = DepotHub(self.depot, asleep)
        super().__init__(asleep, features=FEATURES, depot=self.depot)

    def reply(self, message: m.Message) -> m.Message | None:
        """What the hub says to a frame."""
        return self.town.answer(message)


async def test_a_recorded_job_replays_without_a_depot_and_its_log_has_no_capability() -> None:
    harness = DepotHarness()
    harness.depot.delays["upload"] = 7.0
    harness.depot.failures["download"] = [LinkExpired("over")]
    harness.at(30.0, setattr, harness.town, "result", {})
    harness.at(30.0, harness.say, delivered("job-1", capability="sealed"))
    assert isinstance((await harness.run())["job-1"], e.Done)
    log = harness.log
    assert {row.label for row in log.rows if row.dir == "effect"} == {"fingerprint", "put", "get"}
    assert {"storing", "stored", "delivered"} <= {row.label for row in log.rows}
    found = await replay(log)
    assert divergences(log, found.again) == []
    assert "sealed" not in "".join(map(str, redact([row.data for row in log.rows])))


async def test_a_log_of_a_client_without_a_depot_replays_without_an_offer_to_a_hub_that_has_one() -> None:
    harness = PipelineHarness(asleep, features=FEATURES)
    harness.at(30.0, harness.wake)
    assert isinstance((await harness.run())["job-1"], e.Done)
    assert divergences(harness.log, (await replay(harness.log)).again) == []


class DepotHouse(House):
    """A daemon whose hub has a depot."""

    def __init__(self) -> None:
        self.depot: FakeDepot = FakeDepot()
        super().__init__(LaneLimits(uploads=1), answer=offline, features=FEATURES, depot=self.depot)
        self.town = DepotHub(self.depot)
        self.connect()

    def reply(self, message: m.Message) -> m.Message | None:
        """What the hub says to a frame."""
        return self.town.answer(message)


async def test_jobs_of_a_daemon_offer_their_files_at_once_and_upload_them_in_turns() -> None:
    house = DepotHouse()
    house.depot.delays["upload"] = 10.0
    jobs = [house.start(n) for n in range(3)]
    await asyncio.sleep(1.0)
    assert len({offer.request_id for offer in house.link.said(d.DepotOffer)}) == 3
    assert len(house.depot.said("upload")) == 2  # the two files of the first
    house.at(100.0, lambda: [house.link.receive(delivered(f"job-{n}")) for n in range(3)])
    house.at(99.9, setattr, house.town, "result", {})
    assert {type(done) for done in await asyncio.gather(*jobs)} == {e.Done}
    assert [house.first(n, e.Stored) for n in range(3)] == sorted(house.first(n, e.Stored) for n in range(3))
    assert house.worker.calls == []


async def test_a_depot_that_came_after_the_connection_is_used_when_the_hub_names_it() -> None:
    scene = DepotScene(OURS)
    scene.answer = lambda submit: m.Offline(request_id=submit.request_id, phase="booting", position=1, depot=True)
    await scene.done(50.0, scene.finish)
    assert said(scene.link, d.DepotProgress) == [
        "job.submit", "depot.offer", "depot.stored", "depot.query", "job.done",
    ]  # fmt: skip


async def test_a_result_that_is_gone_when_it_is_fetched_ends_the_job(scene: DepotScene) -> None:
    lost = {"files": (), "code": "lost", "reason": "the result was removed; run the job again"}
    scene.at(50.0, scene.finish)
    scene.depot.failures["download"] = [DepotError("the depot has no such file any more", code="lost")]
    scene.at(50.1, setattr, scene.town, "result", lost)
    failed = await scene.run()
    assert isinstance(failed, e.Failed)
    assert (failed.code, failed.why) == ("lost", "the result was removed; run the job again")


@pytest.mark.parametrize("once", [True, False])
async def test_a_daemon_has_the_work_done_again_whose_result_the_depot_lost_but_not_without_end(once: bool) -> None:
    house = DepotHouse()
    lost = {"files": (), "code": "lost", "reason": "the result was removed; the job must run again"}
    house.at(50.0, lambda: house.link.receive(delivered("job-1", **lost)))
    if once:
        house.at(90.0, lambda: house.link.receive(delivered("job-1")))
        house.at(89.9, setattr, house.town, "result", {})
        assert isinstance(await house.start(1), e.Done)
        assert [retry.why for retry in house.kinds(1, e.Retrying)] == [lost["reason"]]
        return
    for n in range(1, 40):
        house.at(50.0 + 10 * n, lambda: house.link.receive(delivered("job-1", **lost)))
    assert await house.start(1) == e.Failed(str(lost["reason"]), "lost")
    assert len(house.kinds(1, e.Retrying)) == MAX_LOST_TASKS - 1


async def test_a_job_that_its_gpu_gives_back_goes_the_direct_way_and_says_why(scene: DepotScene) -> None:
    def give_back() -> None:
        scene.town.stored.clear()
        scene.answer = ack
        scene.link.receive(d.DepotPlaces(request_id="job-1", code="refused", reason="the GPU cannot use the depot"))
        scene.grant()

    await scene.done(50.0, give_back)
    assert "the GPU cannot use the depot" in {each.why for each in scene.of(e.Retrying)}
    assert scene.of(e.Uploaded)
