"""What is shown of a job: on terminals of any width, in pipes, quietly, and in Chinese."""

import io
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import orjson
import pytest
from loguru import logger
from rich.console import Console

from wakestream.adapters.cli import main
from wakestream.adapters.cli.commands import watch
from wakestream.adapters.cli.demo.output import DemoOutput, spoken
from wakestream.adapters.cli.render import job_text
from wakestream.adapters.cli.render.display import JsonLines, Leaving, LiveDisplay, Outcomes, PlainLines, display
from wakestream.adapters.daemon import api_client as daemon_client
from wakestream.adapters.telemetry import logs
from wakestream.operators.model import events as e

JOB = e.Job.lipsync("ws-1", Path("clip.mp4"), Path("speech.wav"), Path("out.mp4"))


def picture(events: Iterable[e.JobEvent | tuple[e.JobEvent, float]], width: int) -> list[str]:
    """What stands on a terminal so wide after these events, each of now or of so many seconds ago."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    live = LiveDisplay(JOB, console)
    for event in events:
        live.show(*(event if isinstance(event, tuple) else (event,)))
    with console.capture() as capture:
        console.print(live.picture())
    return [line.rstrip() for line in capture.get().splitlines()]


ON = e.Granted("online", 0.1)
RUNS: list[e.JobEvent] = [ON, e.Running(42, "processing", 21, 50)]


def test_a_skipped_stage_is_not_shown_as_pending_and_a_bar_has_the_text_of_the_line() -> None:
    _, stages, bar = picture(RUNS, 80)
    assert [part in stages for part in ("- wake", "▸ render", "· download")] == [True] * 3
    assert bar.startswith("render ━")
    assert "42 %" in bar
    assert bar.endswith("frame 21/50")


def test_an_unknown_rate_is_left_out() -> None:
    assert "?" not in picture([ON, e.Uploading(0, 3 * 10**9, "clip.mp4")], 80)[-1]


def test_with_an_existing_result_no_stage_looks_pending() -> None:
    shown = picture([e.Done(Path("out.mp4"), 1500)], 80)
    assert shown[1] == "✓ submit  - wake  - check  - upload  - render  - download"


def test_every_display_marks_an_existing_result(capsys: pytest.CaptureFixture[str]) -> None:
    same = e.Note("the same work was done before", {"same_as": "ws-0"})
    cached = e.Submitted(e.Online("http://gpu"), "t", cached=True)
    rendered = e.Submitted(e.Online("http://gpu"), "t")
    end = e.Done(Path("out.mp4"), 1500)
    for event, words, whose in (
        (same, "done: out.mp4 (1.5 kB); reused from job ws-0, nothing was rendered", "ws-0"),
        (cached, "done: out.mp4 (1.5 kB); the worker already had it, nothing was rendered", "the worker"),
        (rendered, "done: out.mp4 (1.5 kB)", None),
    ):
        assert " ".join(picture([event, end], 200)[2:]) == words
        for shown in (PlainLines(), Outcomes(), JsonLines("ws-1"), JsonLines("ws-1", quiet=True)):
            shown.show(event)
            shown.show(end)
        told = capsys.readouterr().out.splitlines()
        assert [line for line in told if line.endswith(words)] == [told[1], told[2]]
        assert [orjson.loads(line).get("reused") for line in told[-3:]] == [None, whose, whose]


def test_earlier_events_keep_their_times(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wakestream.adapters.cli.render.display.time.monotonic", lambda: 1000.0)
    plain, as_json = PlainLines(), JsonLines("ws-1")
    for event, ago in ((e.Waking(0, "booting"), 600.0), (ON, 540.0), (e.Running(10, "processing"), 30.0)):
        plain.show(event, ago)
        as_json.show(event, ago)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines[::2]] == ["    0.0 s", "   60.0 s", "  570.0 s"]
    assert [round(orjson.loads(line)["t"]) for line in lines[1::2]] == [0, 60, 570]


def test_the_stages_of_a_job_that_has_long_been_at_work_have_taken_as_long_as_they_did() -> None:
    before = [(e.Queued(1, "booting", None), 600.0), (e.Granted("offline", 1, "x"), 480.0)]
    assert "✓ wake 2 min 00 s" in picture(before, 100)[1]
    shown = picture([*before, (e.Uploading(1, 2), 90.0)], 100)
    assert "▸ upload 1 min 30 s" in shown[1]
    assert "0:01:30" in shown[2]


@pytest.mark.parametrize(("minutes", "left"), [(1, "left 0:01:00"), (25 * 60, "left 25:00:00")])
def test_the_time_left_is_in_hours_also_after_a_day(minutes: int, left: str) -> None:
    uploads = [(e.Uploading(done, 10 + minutes), 60.0 * (10 - done)) for done in (0, 10)]
    assert left in picture([ON, *uploads], 120)[2]


def test_the_remaining_time_counts_down_between_events() -> None:
    events = [(e.Queued(1, "booting", e.Eta(60, 90)), 15.0), (e.Waking(1, "booting", 1, e.Eta(60, 90)), 15.0)]
    for shown in (picture(events[:1], 120), picture(events, 120)):
        assert "(usually 45 s more, rarely over 1 min 15 s)" in shown[-1]


@pytest.mark.parametrize("width", [30, 40, 60, 72, 80, 200])
@pytest.mark.parametrize("last", [RUNS[1], e.Uploading(10**9, 3 * 10**9, "clip.mp4"), e.Waking(9, "no_monitor")])
def test_it_fits_any_terminal(width: int, last: e.JobEvent) -> None:
    shown = picture([ON, last], width)
    assert max(map(len, shown)) <= width
    assert len(shown) <= 9
    if isinstance(last, e.Uploading):
        assert "1.0 GB / 3." in shown[-1]


@pytest.mark.usefixtures("chinese")
def test_the_display_speaks_chinese() -> None:
    shown = picture(RUNS, 80)
    assert "✓ 提交" in shown[1]
    assert "▸ 合成" in shown[1]
    assert shown[2].endswith("第 21 / 50 帧")


def test_plain_and_log_lines_are_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wakestream.adapters.cli.render.display.time.monotonic", lambda: 100.0)
    logs.configure("INFO")
    try:
        with PlainLines() as shown:
            shown.show(e.Rendered(e.Submitted(e.Online("http://x"), "t")))
            logger.bind(job="ws-1", stage="link").warning("the hub is away; trying again")
            logger.opt(exception=ValueError("no")).error("it broke")
    finally:
        logger.remove()
    said = capsys.readouterr()
    assert said.out == "    0.0 s  rendered\n"
    first, second, *more = said.err.splitlines()
    assert (first, second) == ("    0.0 s  warning: the hub is away; trying again", "    0.0 s  error: it broke")
    assert more[-1] == "ValueError: no"


def test_what_an_engine_has_is_a_line_every_few_seconds_and_the_last_change_is_not_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("wakestream.adapters.cli.render.display.time.monotonic", lambda: now)
    shown = PlainLines()
    for now, text in ((100.0, "On"), (102.0, "Once"), (103.0, ""), (105.0, ""), (106.0, ""), (120.0, "")):  # noqa: B007
        shown.preview(text)
    said = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert [(at, words[:9]) for at, _, words in said] == [("0.0", "so far: O"), ("5.0", "a preview")]


def test_json_log_lines_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", json=True)
    try:
        with PlainLines():
            logger.info("hello")
    finally:
        logger.remove()
        logs.configure("INFO")
        logger.remove()
        sys.excepthook = sys.__excepthook__
    assert orjson.loads(capsys.readouterr().err)["message"] == "hello"


def test_quiet_shows_only_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        shown = display(JOB, as_json=as_json, quiet=True)
        with shown:
            shown.show(ON)
            shown.show(e.Done(Path("out.mp4"), 1500))
        assert isinstance(display(JOB, as_json=as_json), JsonLines if as_json else PlainLines)  # in a file
    first, second = capsys.readouterr().out.splitlines()
    assert first == "done: out.mp4 (1.5 kB)"
    assert orjson.loads(second)["event"] == "done"


def test_a_wrapped_demo_line_is_indented() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    with console.capture() as capture:
        DemoOutput(console).say("hub", "connected to ws://127.0.0.1:41099/a/very/long/address")
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert len(lines) > 1
    assert all(line.startswith(" " * 18) for line in lines[1:])
    assert "".join(line[18:] for line in lines).replace(" ", "").endswith("/a/very/long/address")


def test_a_quiet_demo_prints_only_its_table() -> None:
    console = Console(file=io.StringIO(), width=80)
    show = DemoOutput(console, quiet=True)
    show.say("hub", "hello")
    show.begin(1, JOB)
    show.event(ON)
    assert cast("io.StringIO", console.file).getvalue() == ""


def test_a_programs_log_line_is_shown_as_its_message() -> None:
    assert spoken("monitor", "10:00:00.000 INFO    - -  off -> starting") == ("monitor", "off -> starting")
    assert spoken("hub", "10:00:00.000 WARNING j1 link  slow") == ("hub", "warning: slow")
    passed_on = "10:00:00.000 INFO    - machine  [12] 10:00:00.000 INFO    - -  ready"
    assert spoken("monitor", passed_on) == ("worker", "ready")
    assert spoken("hub", "not a log line") == ("hub", "not a log line")


class Telling:
    """In the place of a daemon that is asked for the events of all jobs."""

    async def needed(self) -> None:
        """It runs."""

    async def job(self, job: str) -> dict[str, object]:
        """What the daemon says of it."""
        raise daemon_client.DaemonRefused("it is forgotten by now", code="unknown_job")

    async def events(self) -> AsyncIterator[dict[str, object]]:
        for event in ("accepted", "missed", "done"):
            path = {"path": "out.mp4", "size": 5} if event == "done" else {}
            yield {"job": "ws-1", "event": event, "at": 1.0, **path}


@pytest.mark.parametrize(
    ("flag", "shown"), [([], ["accepted", "missed", "done"]), (["-q"], ["missed", "done"])], ids=["all", "quiet"]
)
def test_quiet_following_of_all_jobs_shows_only_ends(
    flag: list[str], shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def client(_: Path) -> AsyncIterator[Telling]:
        yield Telling()

    monkeypatch.setattr(watch, "open_daemon_client", client)
    assert main.main(["watch", "--json", *flag]) == 0
    assert [orjson.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == shown
    assert main.main(["watch", *flag]) == 0
    said = capsys.readouterr().out
    assert said.count("ws-1") == len(shown) - 1
    assert "some events were missed; `wakestream jobs --all` shows the current state" in said


def test_a_job_without_files_has_one_plain_line_about_them(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = e.Checked(e.Online("http://worker", "gpu"), {}, "md5", ())
    with PlainLines() as shown:
        for event in (e.Fingerprinted(()), nothing, e.Uploaded(nothing, 0, 0)):
            shown.show(event)
    assert [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()] == ["no files to upload"]


def test_no_line_speaks_of_zero_bytes() -> None:
    checked = e.Checked(e.Online("http://worker", "gpu"), {}, "md5", ())
    said = [job_text.event(each) for each in (checked, e.Uploaded(checked, 0, 0), e.Uploaded(checked, 5, 0))]
    assert said == ["no files to upload", "no files to upload", "uploaded 5 B"]


OFF = "Submitted. The files are in the depot, you can switch this PC off."


def test_a_line_about_the_wait_hides_neither_the_upload_to_the_depot_nor_that_the_pc_may_be_switched_off() -> None:
    wait, stores = e.Waking(12.0, "starting"), e.Storing(30, 100, "clip.mp4")
    assert picture([e.Queued(), stores, wait], 80)[2].startswith("upload ━")
    assert picture([e.Queued(), stores, e.Stored(100), wait], 80)[2] == OFF
    assert "reconnecting" in picture([e.Queued(), stores, e.Stored(100), e.Waking(12.0, "hub_lost")], 80)[2]


def test_leaving_says_in_lines_whether_the_pc_must_stay_on(capsys: pytest.CaptureFixture[str]) -> None:
    with Leaving(PlainLines()) as shown:
        for event in (e.Stored(100), e.Granted("offline", 3.0), e.Note("", {"direct": "full", "why": "it is full"})):
            shown.show(event)
    _, stored, _, direct, note = (line.split("s  ", 1)[1] for line in capsys.readouterr().out.splitlines())
    assert stored == OFF
    assert direct == "The files go straight to the GPU machine: this PC must stay on until the job is done."
    assert note.startswith("the depot is not used: it is full; the files go straight to the GPU machine")
