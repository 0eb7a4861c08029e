"""Histories made by hand, where it is known which setting is best."""

from random import Random
from xml.etree import ElementTree

import pytest

from wakestream.streams.hub.keep_warm import kept_in
from wakestream.streams.placement import plan as plans
from wakestream.streams.placement.plan import Setting, as_now, picture, plan
from wakestream.streams.placement.simulate import DAY, Job, Spec

BEGIN = 20_000 * DAY
ONE = (Spec("studio", 1.0, (90.0,)),)


def lonely(days: int, jobs: int = 4) -> list[Job]:
    """Jobs that are hours apart: each second that a machine stays on after one is lost."""
    random = Random(1)
    hours = [[day * DAY + 3600 * (2 + 5 * n + random.random()) for n in range(jobs)] for day in range(days)]
    return [Job(BEGIN + at, 120.0) for of_day in hours for at in of_day]


def test_a_short_idle_time_is_recommended_where_jobs_are_hours_apart() -> None:
    found = plan(lonely(20), Setting("now", "", ONE, idle_stop=1800.0))
    assert found.best is not None
    assert (found.best.setting.name, found.best.setting.value) == ("idle", "60")
    assert found.best.cost < 0.3 * found.rows[0].cost
    assert found.best.sure > 0.99


def test_a_longer_idle_time_is_recommended_where_the_next_job_comes_just_after_the_stop() -> None:
    jobs = [Job(BEGIN + day * DAY + 36_000 + 400 * n, 20.0) for day in range(8) for n in range(20)]
    found = plan(jobs, Setting("now", "", (Spec("studio", 1.0, (300.0,)),), idle_stop=75.0))
    assert found.best is not None
    assert found.best.setting.name == "idle"
    assert found.best.setting.idle_stop > 75.0
    assert found.best.mean <= 0.5 * found.rows[0].mean


def test_nothing_is_recommended_from_a_few_days() -> None:
    found = plan(lonely(3), Setting("now", "", ONE, idle_stop=1800.0))
    assert not found.enough
    assert found.best is None


def test_nothing_is_recommended_where_the_present_setting_is_best() -> None:
    found = plan(lonely(20), Setting("now", "", ONE, idle_stop=60.0))
    assert found.enough
    assert found.best is None


def test_a_setting_that_only_one_day_speaks_for_is_not_recommended() -> None:
    jobs = [Job(BEGIN + day * DAY + 3600 * n, 3000.0) for day in range(19) for n in range(20)]
    jobs += [Job(BEGIN + 19 * DAY + 10_000 * n, 60.0) for n in range(8)]
    found = plan(jobs, Setting("now", "", ONE, idle_stop=1800.0))
    idle = next(row for row in found.rows if row.setting.value == "60")
    assert idle.sure < 0.9


def test_a_machine_that_only_one_kind_of_job_needs_is_not_left_out() -> None:
    two = (Spec("a", 1.0, (90.0,)), Spec("b", 2.0, (90.0,)))
    jobs = [job._replace(fits=frozenset("b")) for job in lonely(8)]
    names = [(row.setting.name, row.setting.value) for row in plan(jobs, Setting("now", "", two)).rows]
    assert ("fewer", "a") in names
    assert ("fewer", "b") not in names


def busy(days: int) -> list[Job]:
    """Ten hours of work each day, from six o'clock on."""
    return [Job(BEGIN + day * DAY + 3600 * (6 + n), 3500.0) for day in range(days) for n in range(10)]


def test_a_budget_stops_the_simulated_machines_until_the_next_day_and_its_price_in_waiting_is_shown() -> None:
    found = plan(busy(10), Setting("now", "", ONE, budgets={"": (12.0, None), "studio": (5.0, None)}))
    now, free = found.rows[0], next(row for row in found.rows if row.setting.name == "unlimited")
    assert free.mean < 300 < DAY < now.mean
    assert max(now.outcome.cost.values()) < 5.0 + 2.0
    month = plan(busy(8), Setting("now", "", ONE, budgets={"": (None, 40.0)})).rows[0]
    october = sum(cost for day, cost in month.outcome.cost.items() if day < BEGIN // DAY + 28)
    assert 40 <= october < 42
    assert month.cost > 77
    assert month.mean > 5 * DAY


def test_a_budget_that_allows_nothing_ends_the_simulation_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "others", lambda *_: ())
    now = plan(busy(8), Setting("now", "", ONE, budgets={"": (0.0, None)})).rows[0]
    assert now.cost == 0.0
    assert now.mean > 300 * DAY


def test_the_keep_warm_hours_of_the_hub_are_simulated_and_the_row_without_them_shows_what_they_cost() -> None:
    history = {
        "gpus": {"studio": {"slots": 1, "boots": [90], "failed": 0.25}}, "place": {},
        "keep_warm": {"": ["Mon-Sun 08:00-18:00"]}, "zone": "Europe/Berlin",
        "budgets": {"studio": [7.5, None]},
    }  # fmt: skip
    present = as_now([{"gpu": "studio", "price_per_hour": 1.0}], history, kept_in(history))
    assert (present.machines[0].fails, present.budgets) == (0.25, {"studio": [7.5, None]})
    assert present.warm is not None
    noon = BEGIN + DAY / 2
    assert [present.warm("studio", noon + 3600 * n) for n in (-7, -5, 4.5)] == [False, True, False]
    jobs = [Job(BEGIN + day * DAY + 3600 * 12 + 20.0 * day, 60.0) for day in range(8)]
    found = plan(jobs, as_now([], history | {"budgets": {}}, kept_in(history)))
    cold = next(row for row in found.rows if row.setting.name == "cold")
    assert found.rows[0].p95 < 1 < 60 < cold.p95
    assert cold.cost < 0.2 * found.rows[0].cost


def test_failed_boots_of_the_history_make_jobs_wait_longer() -> None:
    sure, doubtful = (Spec("studio", 1.0, (90.0,), fails=fails) for fails in (0.0, 0.5))
    waits = [plan(lonely(10), Setting("now", "", (spec,))).rows[0].mean for spec in (sure, doubtful)]
    assert waits[1] > 1.5 * waits[0]


def test_only_the_newest_jobs_are_simulated_and_the_plan_says_how_many_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plans, "MOST_JOBS", 50)
    found = plan(lonely(15), Setting("now", "", ONE))
    assert (found.jobs, found.left_out, found.plain()["left_out"]) == (50, 10, 10)


def test_the_picture_is_well_formed_and_has_bars_for_each_setting() -> None:
    found = plan(lonely(8), Setting("now", "", ONE))
    labels = [f"<{row.setting.name}> & {row.setting.value}" for row in found.rows]
    root = ElementTree.fromstring(picture(found.rows, labels, ("cost", "wait")))  # noqa: S314 - it is our own
    assert [len(group.findall("{*}rect")) for group in root.findall("{*}g")] == [2] * len(found.rows)
