"""The hub's answer as lines."""

import datetime
from typing import Any

import pytest

from wakestream.adapters.cli.render import status_text
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import UPLOADED


def status(*gpus: dict[str, Any], **told: Any) -> list[str]:
    return status_text.status(m.HubStatus(request_id="q", gpus=gpus, **told))


@pytest.mark.parametrize(
    ("gpu", "line"),
    [
        ({"phase": "off", "why": "no work for 300 s"}, "  reason: it was idle for 5 min"),
        (
            {"phase": "off", "labels": {"cuda": "", "memory": "24GB", "shelf": 3}},
            "  labels: cuda, memory=24GB, shelf=3",
        ),
        (
            {"phase": "not_ready", "uptime_s": 0, "why": "node X is missing"},
            "  running; its time counts from when its engine is ready first",
        ),
    ],
)
def test_a_gpu(gpu: dict[str, Any], line: str) -> None:
    lines = status({"gpu": "studio", **gpu})
    assert line in lines
    assert ("  not running" in lines) == (gpu["phase"] == "off")


def test_a_gpu_that_is_not_available_says_when_it_is_asked_for_again() -> None:
    gpu = {"gpu": "studio", "phase": "no_capacity", "since": 100, "retry_at": 170}
    assert "GPU studio: not available at the provider, for 30 s; next try in 40 s" in status(gpu, ts=130)
    assert "GPU studio: not available at the provider, for 1 min 10 s" in status(gpu, ts=170)


def test_budgets_say_what_is_left_and_when_they_begin_again() -> None:
    until = int(datetime.datetime(2026, 3, 11).timestamp())
    day = {"period": "day", "limit": 2.0, "spent": 2.1, "left": 0.0, "until": until}
    month = {"period": "month", "gpu": "studio", "limit": 30.0, "spent": 12.5, "left": 17.5, "until": until}
    answer = m.HubStatus(request_id="q", currency="EUR", budgets=(day, month))
    assert status_text.budgets(answer) == [
        "budget of all GPUs, today: 2.10 EUR of 2.00 EUR; spent, no GPU is started before 2026-03-11 00:00",
        "budget of GPU studio, this month: 12.50 EUR of 30.00 EUR, 17.50 EUR left",
    ]
    first, second = status_text.budgets(m.HubStatus(request_id="q", license_budget=day, budgets=(day,)))
    assert first == "budget of this license, today: 2.10 of 2.00; spent, its jobs wait until 2026-03-11 00:00"
    assert second.startswith("budget of all GPUs, today")


def test_one_start_is_no_range() -> None:
    assert "startup takes about 2 s (one start so far)" in status(boots=1, boot_s={"p50": 1.8, "p90": 1.8})


def test_the_time_of_a_startup_stands_with_its_gpu() -> None:
    quick = {"gpu": "quick", "phase": "off", "boots": 1, "boot_s": {"p50": 20.0, "p90": 20.0}}
    slow = {"gpu": "slow", "phase": "off", "boots": 3, "boot_s": {"p50": 300.0, "p90": 400.0}}
    lines = status(quick, slow, boots=4, boot_s={"p50": 20.0, "p90": 400.0})
    assert [line for line in lines if "startup" in line] == [
        "  startup takes about 20 s (one start so far)",
        "  startup usually takes 5 min 00 s, rarely over 6 min 40 s (last 3)",
    ]


JOBS = {"storing": 1, "away": 0, "stored": 2, "at_work": 0, "delivered": 1}
IN_DEPOT = {"up": True, **JOBS, "files": 3, "size": 150_000_000}


def test_a_depot_shows_its_files_its_jobs_and_what_it_saved() -> None:
    told = {**IN_DEPOT, "quota": 50_000_000_000, "saved_s": 10_800}
    assert status_text.depot(m.HubStatus(request_id="q", depot=told)) == [
        "depot: files 3, 150.0 MB of 50.0 GB",
        "jobs with files in the depot: 1 job uploading, 2 jobs ready for a GPU, 1 job done, result not fetched yet",
        "the depot saved 3 h 00 min this month: uploads while no GPU was on",
    ]


def test_an_admin_sees_which_license_uses_the_depot() -> None:
    told = {**IN_DEPOT, "licenses": [{"license": "1f0c", "files": 3, "size": 150_000_000}]}
    assert "  license 1f0c: 150.0 MB" in status(depot=told)


def test_a_depot_that_is_away_says_what_jobs_do_instead() -> None:
    answer = m.HubStatus(request_id="q", depot={**IN_DEPOT, "up": False})
    assert status_text.depot(answer) == ["the depot is not connected: files go straight to the GPU machine"]
    assert status_text.depot(m.HubStatus(request_id="q")) == []


def test_a_machine_that_waits_for_an_upload_says_when_it_starts() -> None:
    gpu = {"gpu": "studio", "phase": "off", "plan": {"do": "wake", "in_s": 50.0, "why": UPLOADED}}
    assert status_text.plan(gpu) == "it is started in 50 s, when the upload will be nearly done"
