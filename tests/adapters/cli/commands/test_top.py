"""The operator's screen: what it has with and without a key of role admin, and that it fits."""

from collections.abc import Iterator
from typing import Any

import pytest

from wakestream.adapters.cli.commands.top import top
from wakestream.adapters.cli.i18n import choose
from wakestream.adapters.cli.render.table import width
from wakestream.streams.protocol import messages as m

NOW = 1795570950


def gpu(name: str = "studio", **more: Any) -> dict[str, Any]:
    return {
        "gpu": name, "phase": "online", "since": NOW - 75, "uptime_s": 75, "own": 0, "others": 2,
        "jobs": ["ws-1", "ws-2"], "price_per_hour": 12.5, "today": {"on_s": 75, "of_s": 100, "cost": 1.5, "saved": 0.5},
        "month": {"on_s": 75, "of_s": 100, "cost": 20.0, "saved": 3.0}, **more,
    }  # fmt: skip


def answer(*gpus: dict[str, Any], **more: Any) -> m.HubStatus:
    known: dict[str, Any] = {
        "queue": 3, "currency": "EUR", "connections": {"clients": 4, "workers": 1, "monitors": 2},
        "waiting": ({"license": "1f0c", "jobs": 2}, {"license": "77aa", "jobs": 1}),
        "budgets": ({"period": "day", "limit": 20.0, "spent": 1.5, "left": 18.5, "until": NOW + 3600},),
    }  # fmt: skip
    return m.HubStatus(request_id="top-1", ts=NOW, gpus=gpus, **{**known, **more})


@pytest.fixture(params=["en", "zh"])
def language(request: pytest.FixtureRequest) -> Iterator[str]:
    choose(request.param)
    yield request.param
    choose("en")


def test_it_has_gpus_jobs_queue_connections_costs_and_budgets() -> None:
    lines = top(answer(gpu(), gpu("spare", phase="off", uptime_s=0, jobs=[], others=0)), "hub.example", 80)
    assert lines[0].startswith("wakestream top  hub.example")
    assert "GPUs: 2, running: 1" in lines[0]
    assert lines[2].split() == ["GPU", "STATE", "FOR", "JOBS", "TODAY", "PRICE/H"]
    cells = [cell.strip() for cell in lines[3].split("  ") if cell]
    assert cells == ["studio", "on", "1 min 15 s", "2: ws-1, ws-2", "1.50", "12.50"]
    assert lines[6:] == [
        "waiting: 3 jobs (2 of license 1f0c, 1 of license 77aa)",
        "connected: clients 4, workers 1, monitors 2",
        "costs: 3.00 EUR today, 40.00 EUR this month",
        "budget of all GPUs, today: 1.50 EUR of 20.00 EUR, 18.50 EUR left",
    ]


def test_without_a_key_of_role_admin_it_says_so() -> None:
    lines = top(answer(gpu(jobs=None), connections=None, waiting=None, budgets=None), "hub.example", 80)
    assert "2" in lines[3].split()
    assert lines[-2] == "a key of role admin also shows the jobs of all licenses and the connections"
    assert "waiting: 3 jobs" in lines


def test_a_gpu_whose_use_is_known_has_it() -> None:
    lines = top(answer(gpu(util=87.2)), "hub.example", 100)
    assert "UTIL" in lines[2]
    assert "87 %" in lines[3]


def test_without_a_price_there_are_no_costs() -> None:
    bare = {"gpu": "studio", "phase": "off", "today": {"on_s": 0, "of_s": 1}, "month": {"on_s": 0, "of_s": 1}}
    lines = top(answer(bare, queue=0, budgets=None), "hub.example", 80)
    assert lines[2].split() == ["GPU", "STATE", "JOBS"]
    assert lines[5:] == ["no jobs waiting", "connected: clients 4, workers 1, monitors 2"]


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_it_fits(columns: int) -> None:
    many = [f"ws-{number:016}" for number in range(10)]
    found = top(
        answer(gpu("a" * 20, jobs=many, others=10, util=5), gpu("很长的名字\x1b[2J", phase="new_phase")),
        "h" * 90,
        columns,
    )
    assert max(map(width, found)) <= columns
    assert not any("\x1b" in line for line in found)


def test_it_tells_what_is_planned_and_when_jobs_start(language: str) -> None:
    plan = {"do": "wake", "in_s": 40.0, "why": "unless another GPU gets free before"}
    jobs = {"kind": "lipsync", "jobs": 3, "priority": 0, "first_s": 80.0, "last_s": 200.0}
    unknown = {**jobs, "jobs": 1, "last_s": None}
    told = answer(gpu(), gpu("spare", phase="off", uptime_s=0, plan=plan), expected=(jobs, unknown))
    text = " ".join(top(told, "hub.example", 100))
    said = {
        "en": (
            "GPU spare: it is started in 40 s, unless another GPU gets free before",
            "3 jobs of kind lipsync: the first starts in 1 min 20 s, the last in 3 min 20 s",
            "1 job of kind lipsync: it is not known when it starts",
        ),
        "zh": ("40 秒后启动它", "除非其他 GPU 先空出来", "第一个在 1 分 20 秒后开始", "开始时间未知"),
    }[language]
    for sentence in said:
        assert sentence in text
