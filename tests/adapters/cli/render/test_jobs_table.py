"""The table of the daemon's jobs: which columns it has, and that it fits."""

import io
from typing import Any, cast

import pytest
from rich.console import Console

from wakestream.adapters.cli.live_jobs import ENDED_MOST, LiveJobs, look
from wakestream.adapters.cli.render.jobs_table import Costs, JobProgress, jobs_table
from wakestream.adapters.cli.render.table import width
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonUnreachable

NOW = 1000.0


def job(number: int, **more: Any) -> dict[str, Any]:
    """A job as the daemon lists it, half rendered after 10 s."""
    first = {"event": "running", "percent": 0.0, "status": "synthesizing", "at": NOW - 10}
    return {
        "id": f"ws-{number:016}", "state": "open", "stage": "render", "priority": 0, "output": f"/home/me/{number}.mp4",
        "names": {"video": "clip.mp4", "audio": "speech.wav", "output": f"{number}.mp4"},
        "accepted_at": NOW - 75, "ended_at": None, "outcome": None,
        "first": first, "last": {**first, "percent": 50.0, "at": NOW}, **more,
    }  # fmt: skip


def lines(*jobs: dict[str, Any], costs: Costs | None = None, columns: int | None = None) -> list[str]:
    return jobs_table([(each, JobProgress.of(each)) for each in jobs], costs or Costs({}), NOW, columns)


def test_files_stage_percent_and_time_left() -> None:
    head, row = lines(job(1))
    assert head.split() == ["JOB", "FILES", "STATE", "DONE", "ETA", "SINCE", "OUTPUT"]
    assert row.split("  ")[1:] == [
        "clip.mp4 + speech.wav", "render", "50 %", "10 s", "1 min 15 s", "/home/me/1.mp4",
    ]  # fmt: skip


def test_the_output_of_a_done_job_is_the_file_that_was_made() -> None:
    made = {"event": "done", "path": "/home/me/1-2.mp4", "size": 9}
    assert lines(job(1, state="done", outcome=made, ended_at=NOW))[1].endswith("/home/me/1-2.mp4")


def test_cost_and_priority_are_columns_if_a_job_has_one() -> None:
    head, first, second = lines(job(1), job(2, priority=5), costs=Costs({job(1)["id"]: 0.5}, "EUR"))
    assert head.split()[5:8] == ["COST", "SINCE", "PRIORITY"]
    assert "0.50 EUR" in first
    assert "EUR" not in second


def test_the_kind_is_a_column_if_a_job_is_of_another_one() -> None:
    head, first, second = lines(job(1), job(2, kind="upscale"))
    assert head.split()[2] == "KIND"
    assert ["lipsync" in first, "upscale" in second] == [True, True]


def test_ended_queued_and_pausing_jobs() -> None:
    ended = job(1, state="failed", outcome={"event": "failed"}, ended_at=NOW - 5)
    queued = job(2, last={"event": "running", "percent": 0.0, "status": "queued", "position": 3, "at": NOW}, first=None)
    pauses = job(3, last={"event": "note", "text": "sold out", "data": {"rests": 40}, "at": NOW - 10}, first=None)
    rows = lines(ended, queued, pauses)
    assert [word in row for word, row in zip(("failed", "queued (3)", "paused"), rows[1:], strict=True)] == [True] * 3
    turn = {"event": "note", "text": "waiting for a turn for the GPU: ...", "data": {"waits": "for the GPU"}, "at": NOW}
    (_, waits) = lines(job(4, last=turn, first=None))
    assert ("waiting" in waits, "render" in waits) == (True, False)
    assert "%" not in rows[1]
    assert "30 s" in rows[3]
    for event in ("queued", "waking"):
        last = {"event": event, "waited": 3.0, "phase": "queued", "position": 7, "at": NOW}
        assert "queued (7)" in lines(job(5, stage="wake", last=last, first=None))[1], "in the hub's queue"


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 110, 140])
@pytest.mark.parametrize("name", ["a" * 300 + ".mp4", "很长的名字" * 40 + ".mp4", "a\x1b[2Jb.mp4", "a.mp4"])
@pytest.mark.usefixtures("chinese")
def test_it_fits_any_width(columns: int, name: str) -> None:
    shown = lines(job(1, names={"video": name}), job(2), costs=Costs({job(2)["id"]: 123.45}, "CNY"), columns=columns)
    assert max(map(width, shown)) <= columns
    assert not any("\x1b" in line for line in shown)


def test_at_80_columns_files_stage_percent_time_and_cost_are_there() -> None:
    head, row = lines(job(1), costs=Costs({job(1)["id"]: 1.5}, "CNY"), columns=80)
    assert head.split() == ["JOB", "FILES", "STATE", "DONE", "ETA", "COST"]
    assert "clip.mp4 + speech.wav" in row


def test_a_wide_terminal_has_bars_and_a_file_has_none() -> None:
    assert "█████░░░░░" in lines(job(1), columns=140)[1]
    assert "█" not in lines(job(1))[1]


def picture(table: LiveJobs) -> list[str]:
    with table.console.capture() as capture:
        table.console.print(table.picture())
    return [line.rstrip() for line in capture.get().splitlines()]


def live(*, ended: bool = False, height: int = 24) -> LiveJobs:
    console = Console(file=io.StringIO(), width=80, height=height, force_terminal=True, color_system=None)
    return LiveJobs(console, ended=ended)


def test_the_live_table_has_jobs_at_work_first() -> None:
    table = live()
    table.show([job(3, stage="submit", priority=1), job(2, stage="wake"), job(1)])
    assert [row.split()[0][-1] for row in picture(table)[1:-1]] == ["1", "3", "2"]
    table.show([job(3, stage="submit", place=2), job(2, stage="wake", place=1), job(1, place=3)])
    assert [row.split()[0][-1] for row in picture(table)[1:-1]] == ["1", "2", "3"]
    assert picture(table)[-1] == "Ctrl-C leaves; the jobs go on"


def test_the_live_table_fits_the_terminal_and_counts_the_rest() -> None:
    table = live(height=10)
    table.show([job(number) for number in range(20, 0, -1)])
    shown = picture(table)
    assert len(shown) == 9
    assert shown[-2] == "and 14 more; `wakestream jobs` lists all"


def test_a_job_that_is_gone_is_told_once() -> None:
    table = live()
    table.show([job(1), job(2)])
    assert table.gone([job(2)]) == [job(1)["id"]]
    assert table.gone([job(2)]) == []
    table.show([])
    assert picture(table)[0].startswith("no unfinished jobs")


async def test_ends_are_told_after_a_daemon_was_away() -> None:
    class Client:
        patience = 60.0
        away = True

        async def jobs(self, *_: object) -> tuple[list[dict[str, Any]], int]:
            return [], 0

        async def job(self, id_: str) -> dict[str, Any]:
            if id_ == job(2)["id"] and self.away:
                raise DaemonUnreachable("it starts again")
            return {**job(1), "id": id_, "state": "done", "outcome": {"event": "done"}}

        async def look(self) -> None:
            self.away = False

        async def costs(self) -> tuple[dict[str, float], str]:
            return {}, ""

    table, client = live(), cast("DaemonClient", Client())
    table.show([job(1), job(2), job(3)])
    ends = [[each["id"] for each in await look(client, table, told=False)] for _ in range(3)]
    assert ends == [[job(1)["id"]], [job(2)["id"], job(3)["id"]], []]


def test_the_last_ended_jobs_stay_on_request() -> None:
    table = live(ended=True)
    over = {"state": "done", "outcome": {"event": "done"}, "ended_at": NOW}
    table.show([job(number, **over) for number in range(30, 0, -1)])
    assert len(picture(table)) == ENDED_MOST + 2


def test_an_absent_daemon_is_said() -> None:
    table = live()
    table.show([job(1)])
    table.away_since = 1.0
    assert picture(table)[-1] == "the daemon does not answer; waiting for it"


def test_a_job_whose_files_wait_in_the_depot_is_in_the_depot_and_has_the_percent_of_its_step() -> None:
    told = (
        {"event": "stored", "size": 5, "at": NOW},
        {"event": "remote", "step": "wait", "at": NOW},
        {"event": "waking", "waited": 3.0, "phase": "queued", "position": 2, "at": NOW},
    )
    for last in told:
        assert "in the depot" in lines(job(1, last=last, first=None))[1]
    stores = {"event": "storing", "bytes": 30, "of": 100, "at": NOW}
    assert lines(job(1, stage="upload", last=stores, first=None))[1].split("  ")[2:4] == ["upload", "30 %"]
    renders = {"event": "remote", "step": "render", "percent": 40.0, "gpu": "a", "at": NOW}
    assert lines(job(1, last=renders, first=None))[1].split("  ")[2:4] == ["render", "40 %"]
