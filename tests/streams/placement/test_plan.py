"""Histories made by hand, where it is known which setting is best."""

from random import Random
from xml.etree import ElementTree

from wakestream.streams.placement.plan import Setting, picture, plan
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
    jobs = [Job(BEGIN + day * DAY + 36_000 + 400 * n, 20.0) for day in range(10) for n in range(60)]
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


def test_the_picture_is_well_formed_and_has_bars_for_each_setting() -> None:
    found = plan(lonely(8), Setting("now", "", ONE))
    labels = [f"<{row.setting.name}> & {row.setting.value}" for row in found.rows]
    root = ElementTree.fromstring(picture(found.rows, labels, ("cost", "wait")))  # noqa: S314 - it is our own
    assert [len(group.findall("{*}rect")) for group in root.findall("{*}g")] == [2] * len(found.rows)
