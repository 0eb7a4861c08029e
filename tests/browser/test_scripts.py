"""The page's own modules, asked in a browser: what they make of events, rows and what other programs say."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser.console_scene import House
from wakestream.adapters.daemon.console.gpu_status import stuck
from wakestream.streams.hub.state import UNWATCHED
from wakestream.streams.protocol.kinds import MEDIA

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

if TYPE_CHECKING:
    from conftest import Visitor

JOB = r"""
async ([events, outcome]) => {
  const { begin, progress, waits } = await import("/store.js");
  const { detail, why } = await import("/sentences.js");
  const files = { kind: "lipsync", inputs: [{ file: "my clip" }, { file: "a.wav" }], outputs: [] };
  const job = begin({ id: "a", state: "open", stage: "submit", events, outcome, ...files });
  const said = { why: why(job).replaceAll("\u00a0", " "), detail: detail(job), waits: waits(job) };
  return { ...said, ...progress(job, events.at(-1)?.at) };
}
"""

GPU = r"""
async ([gpu, hub, eta]) => (await import("/sentences.js")).gpuSays(gpu, hub, eta).replaceAll("\u00a0", " ")
"""

PAIR = r"""
async ([job, events, hub]) => {
  const { begin } = await import("/store.js");
  const { gpuSays, why } = await import("/sentences.js");
  const files = { kind: "lipsync", inputs: [], outputs: [] };
  const card = begin({ id: "a", state: "open", stage: "submit", events, ...files, ...job });
  return [why(card, hub), gpuSays(hub.gpus[0], hub, card.eta)].map((said) => said.replaceAll("\u00a0", " "));
}
"""

LANES = """
async ([batches, from, to, most, told]) => {
  const { Moments } = await import("/moments.js");
  const moments = new Moments();
  for (const [boot, epoch, rows] of batches) moments.add(boot, epoch, rows);
  for (const one of told) moments.told(...one);
  return { ...moments.lanes(from, to, most, to), latest: moments.latest(5), last: moments.last };
}
"""

CLOCKS = r"""
async (at) => {
  const { clock, moment } = await import("/words.js");
  return [clock(at, false), clock(at, true), moment(at)].map((said) => said.replace(/[\u00a0\u202f]/g, " "));
}
"""

LANE = r"""
async ([names, room]) => {
  const { laneText } = await import("/marbles.js");
  return laneText({ font: "x", measureText: (text) => ({ width: 10 * text.length }) }, names, room);
}
"""

PAIRED = """
async ([names, media]) => {
  const { pairsOf } = await import("/pairs.js");
  const { rank } = await import("/slot.js");
  const groups = [["video"], ["audio"]].map((accepts) => ({ accepts, required: true, names: [] }));
  const other = [];
  for (const name of names) {
    const ranks = groups.map((group) => (name.startsWith(".") ? -1 : rank({ name, type: "" }, group.accepts, media)));
    const best = Math.min(...ranks.filter((one) => one >= 0));
    (best === Infinity ? other : groups[ranks.indexOf(best)].names).push(name);
  }
  const { jobs, single } = pairsOf(groups);
  const named = (at, group) => groups[group].names[at];
  const left = single.flatMap((found, group) => found.map((at) => named(at, group)));
  return [jobs.map((job) => job.map(named)), left, other];
}
"""

KINDS = """
([groups]) => import("/pairs.js").then(({ pairsOf }) => pairsOf(groups))
"""

PILE = "the program ended by itself with code 1: Traceback (most recent call last): | " + "File x, line 7 | " * 20


def row(seq: int, label: str, **more: Any) -> dict[str, Any]:
    """A row of the timeline, `seq` seconds after the start."""
    return {"seq": seq, "t": float(seq), "dir": "out", "kind": "event", "label": label, "job": None, "text": "", **more}


def a_job(name: str, begin: int, end: int | None) -> list[dict[str, Any]]:
    """The rows of one."""
    begun = [row(begin, "job.accept", kind="in", job=name)]
    return begun if end is None else [*begun, row(end, "done", job=name)]


async def test_a_programs_last_lines_are_separate_from_the_sentence(visitor: Visitor) -> None:
    async with visitor.page() as page:
        await page.clock.set_fixed_time(datetime.datetime.now())
        now = await page.evaluate("() => Date.now() / 1000")
        events = [{"event": "retrying", "at": now, "attempt": 2, "delay": 60.4, "why": PILE}]
        found = await page.evaluate(JOB, [events, None])
        assert found["why"] == "The program ended by itself with code 1. Trying again in 1 min (attempt 2)."
        assert found["detail"] == PILE
        short = [{"event": "retrying", "at": now - 39.6, "attempt": 2, "delay": 60.0, "why": "the hub is away."}]
        found = await page.evaluate(JOB, [short, None])
        assert (found["why"], found["detail"]) == ("The hub is away. Trying again in 20 s (attempt 2).", "")
        said = await page.evaluate(GPU, [{"phase": "failed", "why": PILE}, {"monitors": 1}, None])
        assert said == "The program ended by itself with code 1."
        said = await page.evaluate(GPU, [{"phase": "failed", "why": "x" * 500}, {"monitors": 1}, None])
        assert len(said) < 120


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("clip.mp4 was changed while it was read", "clip.mp4 was changed while it was read."),
        ("my clip was changed while it was read", "my clip was changed while it was read."),
        ("python ended with code 1: no model", "python ended with code 1: no model."),
        ("render_all ended with code 1: no model", "render_all ended with code 1: no model."),
        ("the worker is full.", "The worker is full."),
        ("stopped: it ran too long", "Stopped: it ran too long."),
    ],
)
async def test_a_sentence_begins_with_a_capital_unless_it_is_a_name(visitor: Visitor, why: str, said: str) -> None:
    async with visitor.page() as page:
        found = await page.evaluate(JOB, [[], {"event": "failed", "code": "unheard_of", "why": why}])
        assert found["why"] == said


async def test_a_job_behind_others_at_the_worker_waits_and_is_not_at_0_percent(visitor: Visitor) -> None:
    async with visitor.page() as page:
        queued = {"event": "running", "at": 5.0, "percent": 0.0, "status": "queued", "position": 3}
        found = await page.evaluate(JOB, [[queued], None])
        assert (found["waits"], found["part"], found["why"]) == (
            True,
            None,
            "Position 3 in the worker's queue.",
        )
        at_work = [{**queued, "at": float(at), "percent": at * 10.0, "position": 0} for at in (5, 6)]
        found = await page.evaluate(JOB, [at_work, None])
        assert (found["waits"], found["part"], found["left"]) == (False, 0.6, 4.0)


async def test_an_event_that_the_page_has_no_words_for_leaves_the_sentence_as_it_was(visitor: Visitor) -> None:
    async with visitor.page() as page:
        events = [{"event": "rendered", "at": 5.0}, {"event": "announced", "at": 6.0}]
        known, both = [await page.evaluate(JOB, [events[:count], None]) for count in (1, 2)]
        assert known["why"] == both["why"] != "why.rendered"


async def test_a_job_that_released_its_gpu_is_shown_as_waiting(visitor: Visitor) -> None:
    async with visitor.page() as page:
        data = {"rests": 290.0, "tries": 10, "why": "nothing listens there"}
        found = await page.evaluate(JOB, [[{"event": "note", "at": 5.0, "text": "…", "data": data}], None])
        assert (found["waits"], found.get("part")) == (True, None)
        assert found["why"] == (
            "10 tries failed: Nothing listens there. The GPU is released to save cost. Next try within 4 min 50 s."
        )


async def test_a_job_whose_gpu_did_not_start_says_when_the_next_try_is(visitor: Visitor) -> None:
    async with visitor.page() as page:
        await page.clock.set_fixed_time(datetime.datetime.now())
        now = await page.evaluate("() => Date.now() / 1000")
        data = {"rests": 290.0, "starts": 3, "why": "no capacity"}
        found = await page.evaluate(JOB, [[{"event": "note", "at": now - 30, "text": "…", "data": data}], None])
        assert found["waits"]
        assert found["why"] == ("The GPU did not start (3 times in a row): No capacity. Next try in 4 min 20 s.")


@pytest.mark.parametrize("before", ["the GPU studio takes no jobs at present: ", "GPU studio 目前不接收任务\uff1a"])
async def test_a_job_names_what_the_engine_of_its_gpu_lacks(visitor: Visitor, before: str) -> None:
    reason = "ComfyUI is not ready: node TestWait is missing; install the custom nodes of the workflow"
    waking = {"event": "waking", "at": 1.0, "waited": 1.0, "phase": "not_ready", "why": before + reason}
    async with visitor.page() as page:
        assert (await page.evaluate(JOB, [[waking], None]))["why"] == f"{reason}."


async def test_the_remaining_boot_time_is_shown_in_every_phase(visitor: Visitor) -> None:
    async with visitor.page() as page:
        await page.clock.set_fixed_time(datetime.datetime.now())
        now = await page.evaluate("() => Date.now() / 1000")
        hub = {"monitors": 1, "boot_s": {"p50": 60, "p90": 90}}
        eta = {"p50": 40, "p90": 70, "at": now}
        off = await page.evaluate(GPU, [{"phase": "off"}, hub, None])
        assert off == "It wakes when you start a job: about 1 min, rarely over 1 min 30 s."
        once = await page.evaluate(GPU, [{"phase": "off"}, {**hub, "boots": 1}, None])
        assert once == "It wakes when you start a job: about 1 min (one start so far)."
        alone = await page.evaluate(GPU, [{"phase": "off", "watched": False}, hub, None])
        assert alone == "Its monitor is not connected, so the GPU can't be started."
        starting = await page.evaluate(GPU, [{"phase": "starting", "since": now - 20}, hub, None])
        assert starting == "Ready in about 40 s, rarely over 1 min 10 s."
        assert await page.evaluate(GPU, [{"phase": "booted", "since": now}, hub, eta]) == starting
        late = await page.evaluate(GPU, [{"phase": "starting", "since": now - 80}, hub, None])
        assert late.startswith("Slower than usual; rarely over")
        one = {"monitors": 1, "boot_s": {"p50": 60, "p90": 60}, "boots": 1}
        starting = await page.evaluate(GPU, [{"phase": "starting", "since": now - 20}, one, None])
        assert starting == "Ready in about 40 s."
        late = await page.evaluate(GPU, [{"phase": "starting", "since": now - 80}, one, None])
        assert late == "Slower than the one start so far (1 min)."


@pytest.mark.parametrize(
    ("phase", "plan", "said"),
    [
        ("off", {"do": "wake", "in_s": 40.0}, "Woken in 40 s, unless another GPU gets free before."),
        ("starting", {"do": "wake", "in_s": None}, "Usually takes 1 min 30 s."),
        ("no_capacity", {"do": "wake", "in_s": None}, "No GPU available. Trying again automatically."),
        ("starting", {"do": "call_back", "in_s": None}, "Its start is called back: no job needs it any more."),
        ("online", {"do": "stop", "in_s": None}, "Stops: another GPU is free too, and no job waits."),
        ("paused", {"do": "held", "in_s": None}, "Held for maintenance."),
        ("off", {"do": "of later", "why": "it moves"}, "It moves."),
        ("off", None, "It wakes when jobs need it."),
    ],
)
async def test_a_gpu_says_what_is_planned_and_how_long_its_own_boots_take(
    visitor: Visitor, phase: str, plan: dict[str, Any] | None, said: str
) -> None:
    async with visitor.page() as page:
        await page.clock.set_fixed_time(datetime.datetime.now())
        now = await page.evaluate("() => Date.now() / 1000")
        boots = {"boot_s": {"p50": 90, "p90": 90}} if phase == "starting" else {}
        gpu = {"gpu": "lab", "phase": phase, "plan": plan, "since": now - 100, **boots}
        known = {"gpu": "studio", "phase": "online", "boot_s": {"p50": 5, "p90": 6}}
        hub = {"hub": "up", "ts": now, "monitors": 1, "gpus": [gpu, known], "boot_s": {"p50": 60, "p90": 90}}
        found = await page.evaluate(GPU, [gpu, hub, {"p50": 1, "p90": 2, "at": now}])
        assert found == said.replace("Usually takes 1 min 30 s.", "Slower than the one start so far (1 min 30 s).")


@pytest.mark.parametrize(
    ("ago", "left", "job", "lamp"),
    [
        (50, 9, "The GPU is waking up: ready in about 9 s, rarely over 29 s.", "Ready in about 9 s,"),
        (2, 0, "The GPU is waking up. It takes longer than usual.", "Slower than usual; rarely over"),
        (50, None, "The GPU is waking up: ready in about 40 s", "Ready in about 40 s,"),
    ],
)
async def test_card_and_lamp_agree(visitor: Visitor, ago: float, left: float | None, job: str, lamp: str) -> None:
    async with visitor.page() as page:
        await page.clock.set_fixed_time(datetime.datetime.now())
        now = await page.evaluate("() => Date.now() / 1000")
        eta = {"p50": 40.0, "p90": 70.0}  # what the job got; the hub's later state replaces it
        events = [{"event": "waking", "at": now, "waited": 1.0, "phase": "booting", "eta": eta}]
        gpus = [{"gpu": "studio", "phase": "starting", "since": now - ago}]
        later = {} if left is None else {"eta_s": {"p50": left, "p90": left + 20}}
        hub = {"hub": "up", "ts": now, "monitors": 1, "gpus": gpus, "boot_s": {"p50": 60, "p90": 90}, **later}
        card, said = await page.evaluate(PAIR, [{}, events, hub])
        assert (card.startswith(job), said.startswith(lamp)) == (True, True), (card, said)


@pytest.mark.parametrize(
    ("own", "others", "open_", "lamp"),
    [
        (0, 0, 0, "Jobs start at once."),
        (1, 0, 1, "In use."),
        (0, 0, 4, "In use, 3 waiting."),
        (3, 2, 1, "In use, 4 waiting."),
    ],
)
async def test_a_lamp_says_that_work_starts_at_once_only_where_no_job_is_before_it(
    visitor: Visitor, own: int, others: int, open_: int, lamp: str
) -> None:
    async with visitor.page() as page:
        gpu = {"phase": "online", "own": own, "others": others}
        assert await page.evaluate(GPU, [gpu, {"monitors": 1, "open": open_}, None]) == lamp


async def test_cards_and_lamp_count_to_one_next_try(visitor: Visitor) -> None:
    async with visitor.page() as page:
        await page.clock.set_fixed_time(datetime.datetime.now())
        now = await page.evaluate("() => Date.now() / 1000")
        gpus = [{"gpu": "studio", "phase": "no_capacity", "retry_at": now + 60}]
        hub = {"hub": "up", "ts": now, "monitors": 1, "gpus": gpus}
        told = {"event": "waking", "waited": 1.0, "phase": "no_capacity"}
        first, late = {**told, "at": now, "retry_in": 60.0}, {**told, "at": now, "retry_in": 58.0}
        said = {text for event in (first, late) for text in await page.evaluate(PAIR, [{}, [event], hub])}
        assert said == {"No GPU available. Next try in 1 min."}


WIDTH = """
async () => {
  const [{ makeCard }, { begin }] = [await import("/cards.js"), await import("/store.js")];
  const acts = { undo: { of: () => null }, order: { grip: () => document.createElement("b"), many: false } };
  const files = { kind: "lipsync", params: {}, inputs: [], outputs: [], accepted_at: 1 };
  const told = { event: "uploading", at: 5, of: 100 };
  const at = (bytes) => begin({ id: "a", state: "open", stage: "upload", ...files, events: [{ ...told, bytes }] });
  const card = makeCard(at(0), {}, acts);
  document.getElementById("cards").append(card.root);
  const bar = card.root.querySelector("[data-step=now] .step-fill");
  bar.getBoundingClientRect();
  card.update(at(100), {});
  const width = (element) => element.getBoundingClientRect().width;
  return [card.root.querySelector(".big").textContent, width(bar) / width(bar.parentElement)];
}
"""


async def test_the_bar_is_as_long_as_its_number_says(visitor: Visitor) -> None:
    async with visitor.page() as page:
        assert await page.evaluate(WIDTH) == ["100%", 1]


ESTIMATE = r"""
async ([found]) => (await import("/costs.js")).estimateText(found).replace(/[\u00a0\u202f]/g, " ")
"""


async def test_the_estimate_names_the_start_of_the_gpu_and_the_idle_time_where_they_are_known(visitor: Visitor) -> None:
    async with visitor.page() as page:
        found = {"jobs": 1, "used_s": 60, "all_s": 60, "cost": 0.06, "all_cost": 0.06, "currency": "EUR"}
        said = await page.evaluate(ESTIMATE, [found])
        assert said == "Usually about 1 min of GPU time and 0.06 EUR. Start-up and idle time are extra."
        found |= {"jobs": 2, "wake_s": 120, "all_s": 180, "all_cost": 0.18}
        said = await page.evaluate(ESTIMATE, [found])
        assert (
            said
            == "About 1 min of GPU time and 0.06 EUR for 2 jobs. With the start of the GPU (2 min): 3 min and 0.18 EUR."
        )


BUSY = r"""
async ([events, waiting, hub]) => {
  const { begin } = await import("/store.js");
  const { gpuSays, known, why } = await import("/sentences.js");
  const card = { state: "open", stage: "submit", kind: "lipsync", inputs: [{ file: "clip.mp4" }], outputs: [] };
  const job = begin({ ...card, id: "a", events });
  known.jobOf = (id) => (id === "a" ? job : undefined);
  const other = begin({ ...card, id: "b", events: waiting });
  const said = [...hub.gpus.map((gpu) => gpuSays(gpu, hub, null)), why(other, hub)];
  return said.map((text) => text.replaceAll("\u00a0", " "));
}
"""


async def test_the_lamp_says_what_a_gpu_does_how_many_wait_and_when_it_is_free(visitor: Visitor) -> None:
    async with visitor.page() as page:
        await page.clock.set_fixed_time(datetime.datetime.now())
        now = await page.evaluate("() => Date.now() / 1000")
        events = [
            {"event": "submitted", "at": now - 42, "position": 0},
            *({"event": "running", "at": now - 2 + at, "percent": 40.0 + at, "position": 0} for at in (0, 2)),
        ]
        waiting = [{"event": "waking", "at": now, "waited": 1.0, "phase": "online", "position": 1}]
        one = {"gpu": "one", "phase": "online", "own": 1, "own_jobs": ["a"], "others": 0}
        hub = {"hub": "up", "ts": now, "monitors": 1, "open": 4, "queue": 3, "gpus": [one]}
        lamp, card = await page.evaluate(BUSY, [events, waiting, hub])
        assert lamp == "Rendering clip.mp4, 3 waiting, free in about 6 min."
        assert card == "Waiting for the GPU. Rendering clip.mp4."
        two = {"gpu": "two", "phase": "online", "own": 0, "others": 2, "waiting": 1}
        both = {**hub, "gpus": [{**one, "waiting": 0}, two], "queue": 1}
        lamps = await page.evaluate(BUSY, [events, waiting, both])
        assert lamps[:2] == ["Rendering clip.mp4, free in about 1 min.", "In use, 2 waiting."]
        assert lamps[2] == "Waiting for other jobs."
        shared = {**hub, "gpus": [{**one, "waiting": 3}, {**two, "waiting": 3}]}
        assert (await page.evaluate(BUSY, [events, waiting, shared]))[0] == "Rendering clip.mp4, 3 waiting."


REPORT = r"""
async (outcome) => {
  const { begin } = await import("/store.js");
  const { report, todo, why } = await import("/sentences.js");
  const files = { kind: "lipsync", inputs: [], outputs: [] };
  const job = begin({ id: "a1", state: outcome.event, stage: "render", outcome, ...files });
  return [why(job), todo(job), report(job)].map((text) => text.replaceAll("\u00a0", " "));
}
"""


@pytest.mark.parametrize(
    ("outcome", "said", "do", "details"),
    [
        (
            {"event": "failed", "code": "task_failed", "why": PILE},
            "Rendering failed.", "Check the files and retry. The worker\u2019s log has more.",
            f"{PILE}\nJob a1 (task_failed)",
        ),
        (
            {"event": "failed", "code": "file_unusable", "why": "/v/nofile.mp4 does not exist; check its name"},
            "File not found: nofile.mp4.", "Put the file back and retry, or choose another one.",
            "/v/nofile.mp4 does not exist; check its name\nJob a1 (file_unusable)",
        ),
        (
            {"event": "failed", "code": "new_code", "why": "the moon is full"},
            "The moon is full.", "Retry. If it fails again, run \u201cwakestream doctor\u201d.",
            "the moon is full\nJob a1 (new_code)",
        ),
        (
            {"event": "timed_out", "stage": "online", "seconds": 600},
            "The GPU was not ready within 10 min.", "Check the GPU\u2019s provider, then retry.",
            "Job a1 (timed_out: online)",
        ),
        ({"event": "cancelled"}, "Cancelled.", "", ""),
    ],
)  # fmt: skip
async def test_a_failed_job_says_why_what_to_do_and_more_on_demand(
    visitor: Visitor, outcome: dict[str, Any], said: str, do: str, details: str
) -> None:
    async with visitor.page() as page:
        assert await page.evaluate(REPORT, outcome) == [said, do, details]


async def test_every_failure_has_a_way_out(visitor: Visitor) -> None:
    async with visitor.page() as page:
        told = set(await page.evaluate("async () => Object.keys((await import('/words-zh.js')).ZH)"))
    failures = {key.removeprefix("fail.") for key in told if key.startswith("fail.")} - {"missing"}
    assert {code for code in failures if f"todo.{code}" not in told} == set()


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("en-US", ["2:05 PM", "2:05:09 PM", "2:05 PM"]),
        ("en-GB", ["14:05", "14:05:09", "14:05"]),
        ("de-DE", ["14:05", "14:05:09", "14:05"]),
        ("zh-CN", ["14:05", "14:05:09", "14:05"]),
    ],
)
async def test_the_page_has_one_clock_that_of_the_locale(visitor: Visitor, locale: str, said: list[str]) -> None:
    async with visitor.page(locale=locale, timezone_id="UTC") as page:
        at = datetime.datetime(2026, 1, 9, 14, 5, 9, tzinfo=datetime.UTC)
        await page.clock.set_fixed_time(at)
        assert await page.evaluate(CLOCKS, at.timestamp()) == said


@pytest.mark.parametrize(
    ("names", "room", "text"),
    [
        (["clip.mp4", "speech.wav"], 300, "clip.mp4 + speech.wav"),
        (["clip.mp4", "speech.wav"], 150, "clip + speech"),
        (["interview-with-her.mp4", "a.wav"], 170, "interview-wi… + a"),
        (["interview.mp4", "narration.wav"], 150, "inter… + narra…"),
        (["a-job-that-went"], 100, "a-job-tha…"),
    ],
)
async def test_a_lane_names_both_files_if_there_is_room(
    visitor: Visitor, names: list[str], room: int, text: str
) -> None:
    async with visitor.page() as page:
        assert await page.evaluate(LANE, [names, room]) == text


async def test_the_timeline_shows_who_is_at_work_first_and_counts_the_others(visitor: Visitor) -> None:
    async with visitor.page() as page:
        rows = [*a_job("old", 1, 5), *a_job("new", 6, 98)]
        rows += [one for number in range(10) for one in a_job(f"open-{number}", 10 + number, None)]
        rows.sort(key=lambda one: one["seq"])
        seen = await page.evaluate(LANES, [[["x", 0, rows]], 0, 100, 4, []])
        jobs = [lane["name"] for lane in seen["lanes"] if lane["kind"] == "job"]
        assert (jobs, seen["jobs"], seen["hidden"]) == (["new", "open-0", "open-1", "open-2"], 12, 8)


async def test_the_timeline_shows_calls_that_failed_and_lists_no_crowd_of_polls(visitor: Visitor) -> None:
    async with visitor.page() as page:
        rows = [row(1, "job.accept", kind="in", job="a"), row(2, "granted", job="a")]
        rows += [row(3 + at, "report", kind="effect", dir="effect", job="a") for at in range(50)]
        rows.append(row(60, "report", kind="effect", dir="effect", job="a", fault=True))
        seen = await page.evaluate(LANES, [[["x", 0, rows]], 0, 100, 4, []])
        assert [one["seq"] for one in seen["latest"]] == [60, 2, 1]
        [lane] = [lane for lane in seen["lanes"] if lane["kind"] == "job"]
        assert [mark["seq"] for mark in lane["marks"]] == [2, 60]


async def test_the_gpus_lane_is_there_before_any_message_and_goes_on_over_a_restart(visitor: Visitor) -> None:
    async with visitor.page() as page:
        told = [["studio", "off", 2.0], ["studio", "off", 4.0], ["studio", "lost", 50.0]]
        seen = await page.evaluate(LANES, [[["x", 0, []]], 0, 100, 4, told])
        [lane] = [lane for lane in seen["lanes"] if lane["kind"] == "power"]
        assert [(span["word"], span["from"]) for span in lane["spans"]] == [("off", 2.0), ("lost", 50.0)]
        power = {"kind": "frame", "dir": "in", "gpu": "studio", "state": "online"}
        batches = [["x", 0, [row(10, "gpu.power.state", **power)]], ["y", 40, [row(1, "up", kind="conn")]]]
        seen = await page.evaluate(LANES, [batches, 0, 100, 4, [["studio", "off", 3.0]]])
        [lane] = [lane for lane in seen["lanes"] if lane["kind"] == "power"]
        assert [(span["word"], span["from"], span["to"]) for span in lane["spans"]] == [("online", 10, 100)]
        [link] = [lane for lane in seen["lanes"] if lane["kind"] == "link"]
        assert [(span["word"], span["from"]) for span in link["spans"]] == [("down", 40), ("up", 41)]
        assert seen["last"] == "y-1"


async def test_the_page_chooses_the_same_kinds_of_files_as_the_daemon(visitor: Visitor, home: House) -> None:
    from wakestream.streams.protocol.kinds import MEDIA

    async with visitor.page() as page:
        for kind in ("video", "audio"):
            accepts = await page.locator(f"#pick-{kind}").get_attribute("accept")
            assert accepts is not None
            assert {*accepts.split(",")} == {*MEDIA[kind], f"{kind}/*"}


async def test_a_page_that_is_open_for_long_still_knows_how_link_gpu_and_jobs_are(visitor: Visitor) -> None:
    async with visitor.page() as page:
        rows = [row(1, "up", kind="conn", dir="conn"), row(2, "job.accept", kind="in", dir="in", job="long")]
        rows += [row(3, "uploaded", job="long"), row(4, "running", job="long"), *a_job("short", 5, 6)]
        rows += [row(7 + at, "running", job="long") for at in range(6100)]
        seen = await page.evaluate(LANES, [[["x", 0, rows]], 5000, 6200, 4, []])
        [link] = [lane for lane in seen["lanes"] if lane["kind"] == "link"]
        assert [(span["word"], span["from"], span["to"]) for span in link["spans"]] == [("up", 1, 6200)]
        [job] = [lane for lane in seen["lanes"] if lane["kind"] == "job"]
        assert (job["name"], [span["word"] for span in job["spans"]]) == ("long", ["render"])


async def test_a_job_that_ended_while_nobody_looked_does_not_go_on_after_a_restart(visitor: Visitor) -> None:
    async with visitor.page() as page:
        before = [*a_job("ended", 1, None), *a_job("goes-on", 2, None)]
        batches = [["x", 0, before], ["y", 50, [row(1, "job.accept", kind="in", job="goes-on")]]]
        seen = await page.evaluate(LANES, [batches, 0, 100, 4, []])
        ends = {lane["name"]: lane["spans"][-1]["to"] for lane in seen["lanes"] if lane["kind"] == "job"}
        assert ends == {"ended": 50, "goes-on": 100}


async def test_singular_and_plural_are_right(visitor: Visitor) -> None:
    async with visitor.page() as page:
        note = {"event": "note", "at": 5.0, "text": "x", "data": {"waits": "to upload", "limit": 1, "before": 3}}
        found = await page.evaluate(JOB, [[note], None])
        assert found["why"] == "Waiting: one job runs at a time, 3 ahead."


@pytest.mark.parametrize("stage", ["reply", "online", "ready", "execution", "transfer", "total"])
async def test_a_timeout_is_explained_in_words(visitor: Visitor, stage: str) -> None:
    async with visitor.page() as page:
        outcome = {"event": "timed_out", "stage": stage, "seconds": 1800.0, "why": ""}
        found = await page.evaluate(JOB, [[], outcome])
        assert f"“{stage}”" not in found["why"]
        assert "30 min" in found["why"]


async def test_a_phase_of_a_later_hub_is_shown_as_its_word(visitor: Visitor) -> None:
    show = """
    async (gpu) => {
      (await import("/gpus.js")).showGpus({ hub: "up", gpus: [gpu] }, { eta: null, open: 0, nameOf: (id) => id });
      return document.querySelector("#gpus").innerText;
    }
    """
    async with visitor.page() as page:
        said = await page.evaluate(show, {"gpu": "studio", "phase": "warming_up", "why": "it is cold"})
        assert "warming up" in said
        assert "It is cold." in said
        assert "phase." not in said
        assert "say." not in said


async def test_a_page_that_asks_from_time_to_time_knows_the_rate_too(visitor: Visitor) -> None:
    ask = """
    async (asked) => {
      const { begin, progress } = await import("/store.js");
      let job;
      for (const event of asked) {
        const events = [{ event: "accepted", at: 1 }, { event: "checked", at: 2 }, event];
        job = begin({ id: "a", state: "open", stage: "upload", events }, job);
      }
      return { ...progress(job), samples: job.samples.length };
    }
    """
    async with visitor.page() as page:
        asked = [{"event": "uploading", "at": 5.0 + at, "bytes": 100 * at, "of": 1000} for at in (0, 2, 2, 4)]
        found = await page.evaluate(ask, asked)
        assert (found["rate"], found["left"], found["samples"]) == (100, 6, 3)
        later = [*asked, {"event": "running", "at": 20.0, "percent": 5.0}]
        assert (await page.evaluate(ask, later))["samples"] == 1


async def test_a_job_and_a_gpu_that_wait_for_money_say_until_when(visitor: Visitor) -> None:
    async with visitor.page() as page:
        until = datetime.datetime(2030, 3, 11).timestamp()
        events = [{"event": "waking", "at": 5.0, "waited": 5.0, "phase": "budget", "position": 1, "until": until}]
        spent = {"period": "day", "limit": 2.0, "spent": 2.1, "left": 0.0, "until": until}
        hub = {"hub": "up", "monitors": 1, "gpus": [{"gpu": "studio", "phase": "off"}], "budgets": [spent]}
        job, gpu = await page.evaluate(PAIR, [{}, events, hub])
        assert job.startswith("The budget is spent. The job continues at ")
        assert gpu.startswith("The budget is spent. It can start at ")
        assert "2030" in job
        assert "2030" in gpu
        other = {**hub, "budgets": [{**spent, "gpu": "lab"}]}
        assert "budget" not in (await page.evaluate(PAIR, [{}, events, other]))[1]


async def test_a_gpu_in_its_keep_warm_hours_says_until_when(visitor: Visitor) -> None:
    async with visitor.page() as page:
        noon = datetime.datetime(2030, 3, 11, 12, tzinfo=datetime.UTC).timestamp()
        gpu = {"gpu": "studio", "phase": "online", "warm_until": noon}
        said = await page.evaluate(GPU, [gpu, {"monitors": 1, "zone": "Europe/Berlin"}, None])
        assert said.replace("\u202f", " ") == "Jobs start at once. Kept on until Mar 11, 2030, 1:00 PM Europe/Berlin."
        orphan = {"gpu": "studio", "phase": "online", "orphan": UNWATCHED}
        assert await page.evaluate(GPU, [orphan, {"monitors": 0}, None]) == (
            "Its monitor is not connected, so nothing switches it off. Start wakestream monitor again."
        )
        assert await page.evaluate(GPU, [{**gpu, "own": 1}, {"monitors": 1}, None]) == ("In use.")


async def test_files_are_paired_as_in_python(visitor: Visitor) -> None:
    cases = json.loads((Path(__file__).parents[1] / "data" / "pairs.json").read_text("utf-8"))
    media = {name: sorted(endings) for name, endings in MEDIA.items()}
    async with visitor.page() as page:
        for case in (case for case in cases if not case.get("strict")):
            jobs, single, other = await page.evaluate(PAIRED, [case.get("names", []), media])
            assert jobs == case.get("jobs", []), case["case"]
            assert sorted(single) == sorted(case.get("single", [])), case["case"]
            assert other == case.get("other", []), case["case"]


async def test_files_of_other_kinds_are_grouped_by_input(visitor: Visitor) -> None:
    def group(*names: str, required: bool = True, roles: tuple[str, ...] = ()) -> dict[str, Any]:
        return {"names": list(names), "required": required, "roles": list(roles)}

    async with visitor.page() as page:
        cases = (
            ([group("a.png", "b.png")], [[0], [1]]),
            ([group("a.png", "b.png"), group(required=False)], [[0, -1], [1, -1]]),
            ([group("a.png", "b.png"), group("b.wav", required=False)], [[0, -1], [1, 0]]),
            ([group("a.png"), group("b.png"), group("c.png")], [[0, 0, 0]]),
            ([group("1_a.png", "2_a.png"), group("1_m.png", "2_m.png"), group("1.t", "2.t")], [[0] * 3, [1] * 3]),
            ([group("1.png", "2.png"), group("1_mask.png", "2_mask.png", roles=("mask",))], [[0, 0], [1, 1]]),
            ([group("1.png", "2.png"), group()], []),
        )
        for groups, jobs in cases:
            assert (await page.evaluate(KINDS, [groups]))["jobs"] == jobs


APART = """
async ([answers]) => {
  const { past } = await import("/past.js");
  const { costs } = await import("/costs.js");
  const apart = (path, ask) => new Promise((done) => {
    const begin = performance.now(); // the page counts its pause from before its first question
    let asked = 0;
    window.fetch = async () => {
      if (++asked === 2) done(performance.now() - begin);
      else setTimeout(ask, 0);
      return new Response(answers[path]);
    };
    ask();
  });
  const list = past({ undo: { of: () => null } }, { jobs: new Map() });
  const panel = costs({ filesOf: () => [], changed: () => {} });
  return [await apart("history", list.refresh), await apart("costs", panel.ask)];
}
"""


async def test_what_changes_with_each_of_thousands_of_jobs_is_asked_for_once_a_second(visitor: Visitor) -> None:
    answers = {"history": '{"jobs": [], "matching": 0}', "costs": '{"hub": "up", "spent": {}}'}
    async with visitor.page(link=False) as page:  # before a login the page itself asks for nothing
        assert all(apart > 990 for apart in await page.evaluate(APART, [answers]))


BEGUN = """
async () => {
  const { Batch } = await import("/batch.js");
  const rows = Array.from({ length: 501 }, (_, at) => ({ line: at + 2, inputs: {}, params: { text: String(at) } }));
  const batch = new Batch([], {}, () => {}, () => {}, { name: "rows.csv", rows, secret: [] });
  batch.show();
  const before = batch.list.children.length;
  for (const row of batch.rows.slice(0, 500)) batch.begun(row);
  return [before, batch.list.textContent, batch.said.textContent];
}
"""


async def test_rows_of_a_long_table_are_shown_when_those_before_them_have_begun(visitor: Visitor) -> None:
    async with visitor.page() as page:
        assert await page.evaluate(BEGUN) == [500, "text 500", "1 job"]


STATES = r"""
async ([cards, hubs]) => {
  const { begin, etaOf, progress } = await import("/store.js");
  const { gpuSays, why } = await import("/sentences.js");
  const files = { kind: "lipsync", inputs: [], outputs: [] };
  const now = Date.now() / 1000;
  return hubs.map((hub) => cards.map((events) => {
    const job = begin({ id: "a", state: "open", stage: "submit", events, ...files });
    const gpu = hub.hub === "up" ? gpuSays(hub.gpus[0], { ...hub, open: 2 }, job.eta) : "";
    const left = progress(job, now, hub)?.left ?? null;
    return { job: why(job, hub), gpu, left, ends: Boolean(etaOf(hub, true)) };
  }));
}
"""

TIME = re.compile(r"\d+ s|\d+ min")
COMING = ("online", "booted", "starting", "draining", "stopping", "off")


async def test_no_two_sentences_about_a_waiting_job_and_its_gpu_contradict_each_other(visitor: Visitor) -> None:
    eta = {"p50": 40.0, "p90": 70.0}
    async with visitor.page() as page:
        now = await page.evaluate("() => Date.now() / 1000")
        phases = [*COMING, "lost", "no_capacity", "failed", "paused", "not_ready", "unknown"]
        told = [*phases, "no_monitor", "booting"]
        cards = [
            *(
                [{"event": "waking", "at": now, "waited": 1.0, "phase": phase, "eta": eta, "why": "GPU: x"}]
                for phase in told
            ),
            [{"event": "queued", "at": now, "phase": "booting", "position": 1, "eta": eta}],
            [{"event": "stored", "at": now, "local": True}],
            [{"event": "queued", "at": now, "eta": eta}, {"event": "remote", "at": now, "step": "wait", "local": True}],
        ]
        hubs: list[dict[str, Any]] = [{"hub": "down", "gpus": [], "ts": now}]
        for phase in phases:
            for more in ({}, {"watched": False}, {"plan": {"do": "held", "in_s": None}}):
                gpu = {"gpu": "studio", "phase": phase, "since": now, "boot_s": eta, "why": "the disk is full", **more}
                status = {"gpus": [gpu], "monitors": 1, "queue": 2, "eta_s": eta}
                hubs.append({"hub": "up", "ts": now, **status, "stuck": stuck(status)})
        for hub, shown in zip(hubs, await page.evaluate(STATES, [cards, hubs]), strict=True):
            for events, said in zip(cards, shown, strict=True):
                what = (hub, events[-1], said)
                job, gpu = said["job"].replace("\u00a0", " "), said["gpu"].replace("\u00a0", " ")
                if hub["hub"] == "down":
                    assert "Can't reach the hub" in job, what
                elif hub["stuck"]:
                    assert gpu in job, what  # the same reason
                if hub["hub"] == "down" or hub["stuck"]:
                    assert (said["left"], said["ends"], TIME.search(job)) == (None, False, None), what  # and no time
                    continue
                phase = hub["gpus"][0]["phase"]
                for words, of in SAYS.items():
                    assert words not in job or phase in of, what
                if TIME.search(job) and TIME.search(gpu):
                    assert TIME.findall(job) == TIME.findall(gpu), what


SAYS = {
    "waking up": ("starting",), "machine is on": ("booted",), "shutting down": ("draining", "stopping"),
    "No GPU available": (), "No monitor": (), "lost": (), "wakes when": ("off",), "other jobs": ("online",),
}  # fmt: skip
"""What the sentence of a waiting job may say only while its one GPU is in one of these phases."""
