"""`wakestream plan` with a hub that answers from a list."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from wakestream.adapters.cli.commands import plan
from wakestream.adapters.cli.main import main
from wakestream.streams.protocol import messages as m

GPU = {"gpu": "studio", "price_per_hour": 2.0, "idle_after_s": 1800}
PLACE = {"patience": 60.0, "min_gain": 5.0, "surplus_after": 90.0, "ahead": 1}


def told(days: list[Any], **more: Any) -> m.HubStatus:
    gpus = {"studio": {"slots": 1, "boots": [90]}}
    history = {"place": PLACE, "fits": [["studio"]], "gpus": gpus, "keep_warm": {}, "days": days, **more}
    return m.HubStatus(request_id="q", gpus=(GPU,), currency="EUR", history=history)


def lonely(days: range) -> list[Any]:
    return [[20_000 + day, [n for hour in (2, 8, 14, 20) for n in (3600 * hour, 120, 0)]] for day in days]


def run(monkeypatch: pytest.MonkeyPatch, answers: list[m.HubStatus], *flags: str) -> int:
    async def hub_status(*_: object, history: tuple[int, int]) -> m.HubStatus:
        return answers.pop(0)

    monkeypatch.setattr(plan, "hub_status", hub_status)
    return main(["plan", "--hub", "http://127.0.0.1:1", *flags])


def test_it_recommends_a_setting_and_draws_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answers = [told(lonely(range(5)), next=[20_005, 0]), told(lonely(range(5, 12)))]
    assert run(monkeypatch, answers, "--svg", str(tmp_path / "plan.svg")) == 0
    said = capsys.readouterr().out
    assert "as now" in said
    assert "Recommended: idle time 1 min" in said
    assert "48 jobs on 12 days" in said
    assert "idle time 1 min" in (tmp_path / "plan.svg").read_text()


def test_json_has_a_row_for_each_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, [told(lonely(range(12)))], "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["recommended"]["setting"], said["recommended"]["value"], said["currency"]) == ("idle", "60", "EUR")
    assert said["rows"][0]["setting"] == "now"


@pytest.mark.parametrize("price", [-1.0, "much", float("nan")])
def test_a_machine_whose_price_is_no_price_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], price: object
) -> None:
    answer = structs.replace(told(lonely(range(3))), gpus=({**GPU, "price_per_hour": price},))
    assert run(monkeypatch, [answer], "--json") == 0
    assert {row["cost"] for row in json.loads(capsys.readouterr().out)["rows"]} == {0.0}


def test_with_little_history_it_recommends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, [told(lonely(range(2)))]) == 0
    assert "Too few jobs or days to recommend a setting." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "said"),
    [(m.HubStatus(request_id="q"), "the hub told no history"), (told([]), "no job has ended since then")],
)
def test_a_hub_without_a_history_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: m.HubStatus, said: str
) -> None:
    assert run(monkeypatch, [answer]) != 0
    assert said in capsys.readouterr().err
