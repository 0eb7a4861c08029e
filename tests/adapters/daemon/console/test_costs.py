"""The daemon asks the hub for costs when something may have changed, and keeps what its own jobs cost."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.programs.our_peers import until
from wakestream.adapters.client.hub_query import old_hub
from wakestream.adapters.daemon.console import costs as of_costs
from wakestream.adapters.daemon.console.costs import Costs, estimate, usual
from wakestream.adapters.daemon.console.job_view import JobView
from wakestream.adapters.daemon.console.uploads import Uploads
from wakestream.adapters.daemon.event_feed import EventFeed
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.operators.model.errors import HubRefused, HubUnreachable, WakestreamError
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.state import OutboxState
from wakestream.streams.protocol import messages as m


def job(id_: str, used_s: float, cost: float | None = None, *, ended: bool = True, kind: str = "lipsync") -> Any:
    priced = {} if cost is None else {"cost": cost}
    return {"id": id_, "kind": kind, "gpu": "gpu", "used_s": used_s, **priced, **({"ended": 5} if ended else {})}


class Scene:
    """A hub that answers with `jobs`, unless it fails with `error`; and jobs that this daemon has done."""

    def __init__(self, folder: Path) -> None:
        self.state = OutboxState()
        self.jobs: list[Any] = []
        self.currency: str | None = "EUR"
        self.error: WakestreamError | None = None
        self.asked = 0
        self.answer = asyncio.Event()
        self.answer.set()
        self.now = 1000.0
        self.folder = folder

    def costs(self) -> Costs:
        box = cast("Outbox", SimpleNamespace(state=self.state, feed=EventFeed("boot")))
        view = JobView(box, cast("Uploads", SimpleNamespace(of_path=lambda _: None)), self.folder / "results")
        return Costs(self.ask, view, self.folder, lambda: self.now)

    async def ask(self) -> m.HubStatus:
        self.asked += 1
        jobs = list(self.jobs)
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return m.HubStatus(request_id="q", currency=self.currency, costs={"jobs": jobs, "days": []})

    def has(
        self, id_: str, outcome: str = "done", *, kind: str = "lipsync", reused: str = "", length: float = 0
    ) -> None:
        files = ("/video.mp4", "/audio.wav", f"/{id_}.mp4")
        outputs = {} if kind == "lipsync" else {"image": f"/{id_}.png"}
        accepted = f.JobAccepted(id_, *files, 1, 1, 1, 1, kind, 0, 1.0, outputs=outputs, video_s=length)
        outbox.DECIDER.evolve(self.state, accepted)
        outbox.DECIDER.evolve(self.state, f.JobEnded(id_, outcome, 2.0, reused=reused))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_the_hub_is_asked_once_for_all_pages_and_again_after_a_while(scene: Scene) -> None:
    costs = scene.costs()
    scene.answer.clear()
    pages = [asyncio.ensure_future(costs.present()) for _ in range(5)]
    await asyncio.sleep(0)
    scene.answer.set()
    assert {(await page)["hub"] for page in pages} == {"up"}
    scene.now += of_costs.FRESH - 0.1
    await costs.present()
    assert scene.asked == 1
    scene.now += 0.2
    await costs.present()
    assert scene.asked == 2


async def test_after_the_end_of_a_job_the_answer_is_a_new_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_costs, "APART", 0.0)
    costs = scene.costs()
    await costs.present()
    scene.has("a")
    scene.answer.clear()
    costs.outdate()
    early = asyncio.ensure_future(costs.present())
    await until(lambda: scene.asked == 2)
    scene.jobs = [job("a", 90.0, 0.03)]  # booked after the question was sent
    costs.outdate()
    page = asyncio.ensure_future(costs.present())
    await asyncio.sleep(0)
    scene.answer.set()
    await early
    found = await page
    assert scene.asked == 3
    assert found["spent"] == {"a": {"used_s": 90.0, "gpu": "gpu", "cost": 0.03, "currency": "EUR"}}
    assert found["names"] == {"a": ["video.mp4", "audio.wav"]}


async def test_many_ends_do_not_make_many_questions(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        scene.now += seconds

    costs = scene.costs()
    await costs.present()
    monkeypatch.setattr(of_costs.asyncio, "sleep", sleep)
    for _ in range(3):
        for _ in range(100):
            costs.outdate()
        await costs.present()
    await costs.close()
    assert scene.asked == 4
    assert waits == [of_costs.APART] * 3


async def test_without_a_page_it_asks_before_the_hub_tells_of_a_job_no_more(scene: Scene) -> None:
    costs = scene.costs()
    for number in range(of_costs.UNSEEN):
        assert scene.asked == 0
        scene.has(f"j{number}")
        scene.jobs.append(job(f"j{number}", 1.0))
        costs.outdate()
    await until(lambda: scene.asked == 1)
    scene.jobs = []
    assert len((await costs.present())["spent"]) == of_costs.UNSEEN


@pytest.mark.parametrize(
    ("error", "hub"),
    [
        (HubUnreachable("hub ws://h: nothing listens there"), "down"),
        (HubRefused("the key is not valid", code="unauthorized"), "refused"),
        (old_hub(), "old"),
    ],
)
async def test_without_the_hub_the_last_figures_stay_and_it_says_why(
    scene: Scene, error: WakestreamError, hub: str
) -> None:
    costs = scene.costs()
    scene.jobs = [job("other", 5.0)]
    before = await costs.present()
    scene.error = error
    scene.now += 100
    found = await costs.present()
    assert (found["hub"], found["why"]) == (hub, str(error))
    assert (found["at"], found["costs"]) == (before["at"], before["costs"])
    scene.error = None
    scene.now += of_costs.APART
    assert (await costs.present())["hub"] == "up"


async def test_a_hub_that_does_not_tell_costs_is_old(scene: Scene) -> None:
    async def ask() -> m.HubStatus:
        return m.HubStatus(request_id="q", currency="EUR")

    scene.ask = ask  # type: ignore[method-assign]
    assert await scene.costs().present() == {"hub": "old", "spent": {}, "open": {}}


async def test_what_own_jobs_cost_is_kept_after_the_hub_has_forgotten_them(scene: Scene) -> None:
    costs = scene.costs()
    scene.has("mine")
    scene.jobs = [job("open", 5.0, 0.1, ended=False), job("mine", 60.0, 0.02), job("of another PC", 60.0, 0.02)]
    assert set((await costs.present())["spent"]) == {"mine"}
    scene.jobs = []
    assert set((await scene.costs().present())["spent"]) == {"mine"}
    (scene.folder / of_costs.NAME).write_text("no JSON")
    assert (await scene.costs().present())["spent"] == {}


async def test_a_job_that_the_daemon_has_forgotten_is_forgotten_here_too(scene: Scene) -> None:
    costs = scene.costs()
    scene.has("old")
    scene.jobs = [job("old", 60.0, 0.02)]
    await costs.present()
    del scene.state.jobs["old"]
    scene.has("new")
    scene.jobs = [job("new", 60.0, 0.02)]
    scene.now += 100
    assert set((await costs.present())["spent"]) == {"new"}


def test_an_estimate_is_the_median_of_jobs_that_were_really_made(scene: Scene) -> None:
    spent = {}
    for number, seconds in enumerate((10.0, 1000.0, 30.0, 20.0)):
        scene.has(f"j{number}")
        spent[f"j{number}"] = {"used_s": seconds, "cost": seconds / 100, "currency": "EUR"}
    scene.has("reused", reused="the worker")
    scene.has("failed", "failed")
    scene.has("paint", kind="paint")
    for name in ("reused", "failed", "paint", "unknown"):
        spent[name] = {"used_s": 1.0, "cost": 0.0, "currency": "EUR"}
    assert usual(spent, scene.state) == {"lipsync": {"jobs": 4, "used_s": 25.0, "cost": 0.25, "currency": "EUR"}}


def test_an_estimate_knows_the_pace_of_jobs_whose_lengths_are_known(scene: Scene) -> None:
    spent = {}
    for number, (used, length) in enumerate(((10.0, 5.0), (60.0, 20.0), (40.0, 20.0), (99.0, 0.0))):
        scene.has(f"j{number}", length=length)
        spent[f"j{number}"] = {"used_s": used}
    assert usual(spent, scene.state) == {"lipsync": {"jobs": 4, "used_s": 50.0, "per_s": 2.0}}


def test_an_estimate_needs_several_jobs_in_the_same_money(scene: Scene) -> None:
    names = [f"j{number}" for number in range(4)]
    for name in names:
        scene.has(name)
    euros = {name: {"used_s": 60.0, "cost": 1.0, "currency": "EUR"} for name in names[:2]}
    assert usual(euros, scene.state) == {}
    dollars = {name: {"used_s": 60.0, "cost": 2.0, "currency": "USD"} for name in names[2:]}
    assert usual(euros | dollars, scene.state) == {"lipsync": {"jobs": 4, "used_s": 60.0}}


USUAL: dict[str, dict[str, Any]] = {
    "lipsync": {"jobs": 9, "used_s": 60.0, "per_s": 2.0},
    "paint": {"jobs": 3, "used_s": 10.0},
}
ASLEEP = {"gpu": "one", "phase": "off", "others": 0, "price_per_hour": 3.6, "idle_after_s": 300.0}
HUB = {"hub": "up", "gpus": [ASLEEP], "boot_s": {"p50": 90.0}, "queue": 0, "own_queued": 0, "currency": "EUR"}


def test_an_estimate_counts_lengths_number_start_and_idle_time_in_time_and_money() -> None:
    jobs = [("lipsync", 20.0), ("lipsync", 0.0)]
    assert estimate(USUAL, jobs, [], HUB, 1000.0) == {
        "jobs": 2, "used_s": 100.0, "wake_s": 90.0, "idle_s": 300.0, "all_s": 490.0,
        "cost": pytest.approx(0.1), "all_cost": pytest.approx(0.49), "currency": "EUR", "done_at": 1190.0,
    }  # fmt: skip


def test_an_estimate_says_when_all_is_done_after_the_jobs_before_on_all_gpus_that_are_on() -> None:
    two = HUB | {"gpus": [ASLEEP | {"phase": "online"}] * 2, "queue": 3, "own_queued": 3}
    assert estimate(USUAL, [("paint", 0.0)], [("lipsync", 5.0)] * 3, two, 1000.0)["done_at"] == 1020.0


def test_an_estimate_has_the_share_of_boots_and_idle_time_that_is_usual_this_month() -> None:
    costs = {"licenses": [{"license": "a", "used_s": 300}, {"license": "", "used_s": 100}], "unused": {"used_s": 200}}
    found = estimate(USUAL, [("lipsync", 0.0)], [], HUB | {"costs": costs}, 1000.0)
    assert (found["used_s"], found["share_s"], found["share"]) == (60.0, 30.0, pytest.approx(0.03))
    assert "share_s" not in estimate(USUAL, [("lipsync", 0.0)], [], HUB, 1000.0)


def test_an_estimate_takes_price_and_start_of_the_gpu_that_comes_first() -> None:
    dear = ASLEEP | {"price_per_hour": 36.0, "boot_s": {"p50": 10.0}}
    cheap = ASLEEP | {"boot_s": {"p50": 200.0}}

    def wake(*gpus: dict[str, Any]) -> float:
        return float(estimate(USUAL, [("paint", 0.0)], [], HUB | {"gpus": gpus}, 1000.0)["wake_s"])

    assert wake(dear, cheap) == 200.0
    assert wake(dear | {"plan": {"do": "wake", "in_s": None}}, cheap) == 10.0
    assert wake(dear | {"phase": "starting"}, cheap | {"plan": {"do": "wake"}}) == 10.0


HELD = ASLEEP | {"phase": "paused", "plan": {"do": "held"}}


@pytest.mark.parametrize(
    "told",
    [
        {"queue": 1}, {"gpus": [ASLEEP | {"others": 1}]}, {"boot_s": None}, {"hub": "down"}, {"gpus": [HELD]},
        {"monitors": 0}, {"gpus": [ASLEEP | {"watched": False}]}, {"budgets": [{"left": 0}]},
        {"gpus": [ASLEEP | {"waiting": 0}, HELD | {"waiting": 2}]},
    ],
)  # fmt: skip
def test_an_estimate_does_not_guess_when_jobs_of_others_end_how_long_a_start_takes_or_when_a_gpu_comes(
    told: dict[str, Any],
) -> None:
    found = estimate(USUAL, [("paint", 0.0)], [], HUB | told, 1000.0)
    assert found["used_s"] == 10.0
    assert "done_at" not in found
    assert estimate(USUAL, [("unknown", 0.0)], [], HUB, 1000.0) == {}


async def test_the_command_line_gets_an_amount_for_each_job_in_one_money(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_costs, "WITHIN", 0.0)
    monkeypatch.setattr(of_costs, "APART", 0.0)
    costs = scene.costs()
    scene.jobs = [job("runs", 5.0, 0.5, ended=False), job("free", 5.0)]
    scene.answer.clear()
    assert await costs.by_job(wait=True) == {"jobs": {}, "currency": "", "spent": {}}, "the hub is silent"
    scene.answer.set()
    await costs.present()
    found = await costs.by_job(wait=False)
    assert (found["jobs"], found["currency"], [*found["spent"]]) == ({"runs": 0.5}, "EUR", ["runs", "free"])
    scene.jobs.append({**job("other", 5.0, 0.2), "currency": "USD"})
    costs.outdate()
    await costs.present()
    assert (await costs.by_job(wait=False))["jobs"] == {}
