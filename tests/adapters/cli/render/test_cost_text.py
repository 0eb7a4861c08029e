"""The hub's answer about costs as lines."""

from typing import Any

from wakestream.adapters.cli.render import cost_text
from wakestream.streams.protocol import messages as m

SPAN = {"on_s": 3600, "of_s": 7200, "cost": 1.2, "saved": 1.2}
GPU = {
    "gpu": "studio", "phase": "off", "price_per_hour": 1.2, "known_since": 1_795_500_000,
    "today": SPAN, "month": SPAN, "all": SPAN,
}  # fmt: skip


def test_costs_name_the_money_and_the_zone() -> None:
    *_, prices, records = cost_text.costs(
        m.HubStatus(request_id="q", gpus=(GPU,), currency="EUR", zone="Europe/Berlin")
    )
    assert prices == "at 1.2 EUR per hour; saved: compared with a GPU that is always on"
    assert records == "days are in Europe/Berlin; records begin 2026-11-24 07:00 Europe/Berlin"
    *_, records = cost_text.costs(m.HubStatus(request_id="q", gpus=(GPU,)))
    assert records == "days are in UTC; records begin 2026-11-24 06:00 UTC"


def answer(**costs: Any) -> m.HubStatus:
    return m.HubStatus(request_id="q", gpus=(GPU,), currency="EUR", costs=costs)


def test_the_forecast_says_how_it_is_made() -> None:
    said = cost_text.costs(answer(forecast={"month": 31.5, "mean": 1.05, "days": 28}))
    assert (
        "forecast for this month: 31.50 EUR (so far, and 1.05 EUR for each day left: the mean of the last 28 full days)"
    ) in said
    assert cost_text.forecast(answer(forecast=None)) == cost_text.forecast(m.HubStatus(request_id="q")) == []


def test_the_chart_has_a_bar_for_each_day_also_for_those_without_cost() -> None:
    days = [{"day": "2026-02-27", "on_s": 3600, "cost": 1.0}, {"day": "2026-03-01", "on_s": 1800, "cost": 0.5}]
    assert cost_text.chart(answer(days=days), "#") == [
        "",
        "2026-02-27  1.00 EUR  " + 30 * "#",
        "2026-02-28  0.00 EUR",
        "2026-03-01  0.50 EUR  " + 15 * "#",
    ]


def test_without_prices_the_chart_shows_hours() -> None:
    days = [{"day": "2026-03-01", "on_s": 7200}]
    (_, line) = cost_text.chart(answer(days=days), "#")
    assert line.split() == ["2026-03-01", "2", "h", "00", "min", 30 * "#"]


def test_the_chart_shows_two_weeks_unless_more_was_asked_for() -> None:
    days = [{"day": f"2026-03-{day:02}", "on_s": 60, "cost": 0.1} for day in range(1, 31)]
    assert len(cost_text.chart(answer(days=days), "#")) == 1 + cost_text.CHART_DAYS
    assert len(cost_text.chart(answer(days=days), "#", all_days=True)) == 31
    assert cost_text.chart(m.HubStatus(request_id="q"), "#") == []


def test_jobs_and_licenses_are_tables() -> None:
    job = {"id": "a", "kind": "lipsync", "gpu": "studio", "used_s": 90.0, "cost": 0.03}
    told = cost_text.jobs(answer(jobs=[job]))
    assert told[0].split() == ["JOB", "KIND", "GPU", "USED", "COST", "ENDED"]
    assert told[1].split() == ["a", "lipsync", "studio", "1", "min", "30", "s", "0.03", "EUR", "not", "yet"]
    told = cost_text.jobs(answer(jobs=[{**job, "ended": 1_795_500_000, "unsaid": True}]))
    assert told[1].endswith("(finished; its client did not say so)")
    told = cost_text.jobs(answer(jobs=[{**job, "share_s": 20.0, "share": 0.01}, {**job, "share_s": 20.0}]))
    assert told[0].split() == ["JOB", "KIND", "GPU", "USED", "COST", "BOOT,", "IDLE", "ENDED"]
    assert [line.split()[-4:-2] for line in told[1:3]] == [["0.01", "EUR"], ["20", "s"]]
    assert told[3].startswith("a job costs its own work")
    assert cost_text.jobs(answer(jobs=[])) == ["no job of yours has used a GPU"]
    rows = [{"license": "", "used_s": 60, "cost": 0.02}, {"license": "1f0c", "used_s": 30}]
    told = cost_text.licenses(answer(licenses=rows, unused={"used_s": 10, "cost": 0.0}))
    assert [line.split()[0] for line in told] == ["LICENSE", "others", "1f0c", "no"]
    assert told[2].split()[-1] == "-"


def test_several_gpus_have_a_line_for_all_together() -> None:
    totals = {"today": {"on_s": 7200, "cost": 2.4}, "month": {"on_s": 7200}}
    two = m.HubStatus(request_id="q", gpus=(GPU, {**GPU, "gpu": "lab"}), currency="EUR", costs={"totals": totals})
    lines = [line.split() for line in cost_text.costs(two) if line.startswith("all GPUs")]
    assert lines == [
        ["all", "GPUs", "today", "2", "h", "00", "min", "-", "2.40", "-"],
        ["all", "GPUs", "this", "month", "2", "h", "00", "min", "-", "-", "-"],
    ]
    assert not any(line.startswith("all GPUs") for line in cost_text.costs(answer(totals=totals)))


def test_different_money_is_not_added_up() -> None:
    days = [{"day": "2026-03-01", "on_s": 7200, "cost": 2.0, "currency": "EUR"}]
    job = {"id": "a", "kind": "lipsync", "gpu": "lab", "used_s": 90.0, "cost": 0.03, "currency": "EUR"}
    gpus = ({**GPU, "currency": "USD"}, {**GPU, "gpu": "lab", "currency": "EUR"})
    mixed = m.HubStatus(request_id="q", gpus=gpus, costs={"currencies": ["EUR", "USD"], "days": days, "jobs": [job]})
    lines = cost_text.costs(mixed)
    assert any(line.startswith("lab") and line.endswith("1.20 EUR  1.20 EUR") for line in lines)
    assert any(line.startswith("prices are in EUR and USD, so there are no sums") for line in lines)
    assert any(line.startswith("at 1.2 EUR and 1.2 USD per hour") for line in lines)
    assert "2 h" in cost_text.chart(mixed, "#")[1]
    assert "0.03 EUR" in cost_text.jobs(mixed)[1]


def test_an_amount_below_a_cent_is_not_nothing() -> None:
    job = {"id": "a", "kind": "lipsync", "gpu": "studio", "used_s": 2.0, "cost": 0.0, "ended": 1_795_500_000}
    assert "<0.01 EUR" in cost_text.jobs(answer(jobs=[job]))[1]
    assert "0.00 EUR" in cost_text.jobs(answer(jobs=[{**job, "used_s": 0.0}]))[1]
