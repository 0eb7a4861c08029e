"""What jobs and licenses cost: shares of the machines' time, over restarts, and the forecast of the month."""

from typing import Any

import pytest

from tests.support.streams.days import BERLIN, day_number
from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub.local_time import begin_of
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

HOUR = 3600.0
TENTH = day_number("2026-03-10")
MORNING = begin_of(TENTH, BERLIN) + 8 * HOUR
ENDS = ("grant", "done", "hub_status")


def hub(now: float = MORNING, **limits: Any) -> Net:
    return Net(now, **({"price": 1.2, "zone": BERLIN, "silent_ttl": 1e9} | limits))


def client(net: Net, owner: str = "ann") -> int:
    return net.join("client", owner=owner, features=ENDS)


def asked(net: Net, fd: int, since: int | None = None) -> dict[str, Any]:
    found = net.status(fd, costs=True, since=since).costs
    assert found is not None
    return dict(found)


def done(net: Net, fd: int, id_: str) -> None:
    net.say(fd, m.JobDone(request_id=id_))


def test_a_job_alone_uses_what_the_machine_ran_meanwhile() -> None:
    net = hub()
    net.worker()
    ann = client(net)
    net.pass_time(HOUR)
    net.submit(ann, "a")
    net.pass_time(HOUR / 2)
    assert asked(net, ann)["jobs"] == [
        {
            "id": "a", "kind": "lipsync", "gpu": "studio", "used_s": 1800.0, "cost": 0.6,
            "share_s": 3600.0, "share": 1.2,
        },
    ]  # fmt: skip
    done(net, ann, "a")
    ended = int(net.now)
    net.pass_time(HOUR)
    said = asked(net, ann)
    assert said["jobs"] == [
        {
            "id": "a", "kind": "lipsync", "gpu": "studio", "used_s": 1800.0, "cost": 0.6,
            "share_s": 7200.0, "share": 2.4, "ended": ended,
        },
    ]  # fmt: skip
    assert said["licenses"] == [{"license": "ann", "used_s": 1800, "cost": 0.6}]
    assert said["unused"] == {"used_s": 7200, "cost": 2.4}


def test_jobs_that_hold_the_gpu_together_share_it_and_all_adds_up() -> None:
    net = hub()
    net.worker()
    ann, bob = client(net), client(net, "bob")
    net.submit(ann, "a")
    net.pass_time(600)  # a alone
    net.submit(bob, "b")
    net.submit(bob, "c")
    net.pass_time(900)  # three
    done(net, ann, "a")
    net.pass_time(600)  # b and c
    done(net, bob, "b")
    done(net, bob, "c")
    said = asked(net, ann)
    assert [(job["id"], job["used_s"]) for job in said["jobs"]] == [("a", 900.0)]
    assert [(row["license"], row["used_s"]) for row in said["licenses"]] == [("", 1200), ("ann", 900)]
    assert said["unused"]["used_s"] == 0
    boss = net.join("client", owner="boss", features=ENDS)
    net.state.connections[boss].admin = True
    said = asked(net, boss)
    assert [(job["id"], job["license"], job["used_s"]) for job in said["jobs"]] == [
        ("c", "bob", 600.0), ("b", "bob", 600.0), ("a", "ann", 900.0),
    ]  # fmt: skip
    assert [row["license"] for row in said["licenses"]] == ["bob", "ann"]


def test_a_machine_that_is_off_costs_its_holder_nothing() -> None:
    net = hub()
    monitor, worker, ann = net.monitor(), net.worker(), client(net)
    net.submit(ann, "a")
    net.pass_time(60)
    net.leave(worker)
    net.phase(monitor, "off")
    net.pass_time(HOUR)
    net.phase(monitor, "starting")
    net.pass_time(60)
    assert asked(net, ann)["jobs"][0]["used_s"] == 60.0


def test_a_restart_forgets_nothing() -> None:
    net = hub()
    net.worker()
    ann = client(net)
    net.submit(ann, "ended")
    net.submit(ann, "open")
    net.pass_time(600)
    done(net, ann, "ended")
    net.pass_time(300)
    before = asked(net, ann)
    net.restart()
    again = client(net)
    assert asked(net, again) == before
    net.pass_time(300)
    assert asked(net, again)["jobs"][0]["used_s"] == 300 + 300 + 300


def test_a_clock_that_is_set_costs_nobody_anything() -> None:
    net = hub()
    net.worker()
    ann = client(net)
    net.submit(ann, "a")
    net.pass_time(600)
    net.now += 86_400
    net.happen(f.ClockMoved(86_400.0))
    net.pass_time(300)
    assert asked(net, ann)["jobs"][0]["used_s"] == 900.0


def test_days_and_totals_are_those_of_the_zone_with_the_cost_of_all_gpus() -> None:
    net = hub(prices={"lab": 2.0})
    net.worker()
    net.pass_time(16 * HOUR)  # from 8:00 until midnight
    lab = net.join("worker", owner="lab-worker", gpu="lab", url="http://w:2", features=("range",))
    net.say(lab, m.Online())
    net.pass_time(HOUR / 2)  # in UTC it is still the day before
    ann = client(net)
    found = asked(net, ann)
    assert found["days"] == [
        {"day": "2026-03-10", "on_s": 16 * 3600, "cost": 19.2},
        {"day": "2026-03-11", "on_s": 3600, "cost": 1.6},
    ]
    assert (found["today"], found["totals"]) == (
        "2026-03-11",
        {"today": {"on_s": 3600, "cost": 1.6}, "month": {"on_s": 17 * 3600, "cost": 20.8}},
    )
    since = TENTH * 86_400 + 86_400
    assert [day["day"] for day in asked(net, ann, since)["days"]] == ["2026-03-11"]


def test_without_a_price_there_is_time_only() -> None:
    net = hub(price=None)
    net.worker()
    ann = client(net)
    net.submit(ann, "a")
    net.pass_time(600)
    said = asked(net, ann)
    assert net.status(ann).costs is None, "it did not ask for them"
    assert said["days"] == [{"day": "2026-03-10", "on_s": 600}]
    assert "cost" not in said["jobs"][0]
    assert said["forecast"] is None


def test_the_forecast_is_what_was_spent_and_the_mean_of_full_days_for_the_rest() -> None:
    net = hub(begin_of(TENTH, BERLIN) - 3 * 24 * HOUR, price=1.0)
    monitor = net.monitor()
    net.phase(monitor, "off")
    ann = client(net)
    assert asked(net, ann)["forecast"] is None, "no full day is known"
    for hours in (5, 4, 0):  # on 7, 8 and 9 March; the first is not whole, since nothing is known from before it
        net.phase(monitor, "booted" if hours else "off")
        net.pass_time(hours * HOUR)
        net.phase(monitor, "off")
        net.pass_time((24 - hours) * HOUR)
    net.phase(monitor, "booted")
    net.pass_time(HOUR)
    said = asked(net, ann)["forecast"]
    assert said == {"month": 5 + 4 + 1 + 1 + 21 * 2, "mean": 2.0, "days": 2}


def boss_of(net: Net) -> int:
    boss = net.join("client", owner="boss", features=ENDS)
    net.state.connections[boss].admin = True
    return boss


def large_hub(**limits: Any) -> tuple[Net, int]:
    """Three years of days, 10,000 licenses, 100,000 jobs that ended, with ids of the greatest length."""
    net = hub(**limits)
    net.worker()
    net.state.gpus["studio"].account.since = net.now - 3 * 365 * 86_400
    account = net.state.gpus["studio"].account
    account.days.update(dict.fromkeys(range(TENTH - 3 * 365, TENTH), 3600.0))
    month = day_number("2026-03-01")
    for number in range(10_000):
        net.state.usage.keep(f"license-{number:05}", {("studio", month): 10.0 + number})
    for number in range(100_000):
        name = f"{number:06}{'日' * 190}"
        net.state.usage.book(f.JobUsed(name, "ann", "口型" * 20, (("studio", 60.0),), month, net.now), TENTH, 60.0)
    net.pass_time(60)
    return net, month


def test_an_answer_fits_into_a_frame_however_much_there_is() -> None:
    net, _ = large_hub(budgets={f"gpu-{number}": (5.0, 50.0) for number in range(1000)})
    boss = boss_of(net)
    answer = net.status(boss, costs=True, since=0)
    assert len(wire.octets(answer)) <= net.limits.batch
    assert [gpu["gpu"] for gpu in answer.gpus] == ["studio"]
    found = answer.costs
    assert found is not None
    assert len(found["days"]) == 366
    assert (found["days"][0]["day"], found["days"][-1]["day"]) == ("2025-03-10", "2026-03-10")
    ids = [job["id"][:6] for job in found["jobs"]]
    assert ids == [f"{99_999 - number:06}" for number in range(len(ids))], "the newest"
    assert 5 < len(ids) < 50
    names = [row["license"] for row in found["licenses"]]
    assert names[:3] == ["", "ann", "license-09999"]
    used = sum(10.0 + number for number in range(10_000)) + 100_000 * 60
    assert sum(row["used_s"] for row in found["licenses"]) == used, "the others are one row, nothing is lost"


def test_with_little_room_the_newest_days_stay() -> None:
    net, _ = large_hub(batch=4096)
    ann = client(net)
    found = asked(net, ann, 0)
    assert len(wire.octets(net.heard(ann, m.HubStatus)[-1])) <= 4096
    assert found["days"][-1]["day"] == "2026-03-10"
    assert len(found["days"]) < 60
    assert found["jobs"] == []


def machine(net: Net, gpu: str, currency: str) -> None:
    """A machine that runs, whose monitor tells its price."""
    net.join("monitor", owner=f"monitor-{gpu}", gpus=(gpu,), features=("power_state",), price=2.0, currency=currency)
    worker = net.join("worker", owner=f"worker-{gpu}", gpu=gpu, url=f"http://{gpu}:1", features=("range",))
    net.say(worker, m.Online())


def test_amounts_of_different_money_are_not_added_up() -> None:
    net = hub(price=None)
    machine(net, "lab", "EUR")
    machine(net, "studio", "USD")
    ann = client(net)
    net.submit(ann, "a")
    net.pass_time(HOUR)
    said = asked(net, ann)
    answer = net.heard(ann, m.HubStatus)[-1]
    assert answer.currency is None
    gpus = {gpu["gpu"]: (gpu["currency"], gpu["today"]["cost"]) for gpu in answer.gpus}
    assert gpus == {"lab": ("EUR", 2.0), "studio": ("USD", 2.0)}
    assert said["currencies"] == ("EUR", "USD")
    assert said["totals"]["today"] == {"on_s": 7200}
    assert said["days"] == [{"day": "2026-03-10", "on_s": 7200}]
    (job,) = said["jobs"]
    assert (job["cost"], job["currency"]) == (2.0, {"lab": "EUR", "studio": "USD"}[job["gpu"]])
    assert said["forecast"] is None
    net.limits = hub(price=None, currency="EUR").limits
    net.restart()
    found = asked(net, client(net))
    assert "currencies" not in found
    assert found["totals"]["today"] == {"on_s": 7200, "cost": 2.0}, "one that has no price in this money is free"


def test_one_money_of_all_providers_is_the_money_of_the_sums() -> None:
    net = hub(price=None)
    machine(net, "lab", "EUR")
    machine(net, "studio", "EUR")
    net.pass_time(HOUR)
    ann = client(net)
    said = asked(net, ann)
    assert net.heard(ann, m.HubStatus)[-1].currency == "EUR"
    assert "currencies" not in said
    assert said["totals"]["today"] == {"on_s": 7200, "cost": 4.0}


def working(net: Net, gpu: str = "studio") -> int:
    """A worker that says how long it works for each job."""
    return net.worker(gpu, features=("range", m.JobWork.FEATURE))


def work(net: Net, worker: int, id_: str, seconds: float) -> None:
    net.say(worker, m.JobWork(request_id=id_))
    net.pass_time(seconds)
    net.say(worker, m.JobWork(request_id=id_, seconds=seconds, ended=True))


def test_a_job_costs_its_own_work_and_no_wait_behind_others_at_the_worker() -> None:
    net = hub()
    worker, ann = working(net), client(net)
    net.pass_time(100)  # nothing to do
    for id_ in "abc":
        net.submit(ann, id_)
    for id_ in "abc":
        work(net, worker, id_, 100)
        net.pass_time(50)  # its client fetches the result
        done(net, ann, id_)
    said = asked(net, ann)
    assert [(job["id"], job["used_s"], job["cost"]) for job in said["jobs"]] == [
        ("c", 100.0, 0.03), ("b", 100.0, 0.03), ("a", 100.0, 0.03),
    ]  # fmt: skip
    assert said["licenses"] == [{"license": "ann", "used_s": 300, "cost": 0.1}]
    assert said["unused"] == {"used_s": 250, "cost": 0.08}


def test_boot_and_idle_time_are_shared_by_work_and_shown_as_such() -> None:
    net = hub()
    worker, ann, bob = working(net), client(net), client(net, "bob")
    net.submit(ann, "a")
    net.submit(bob, "b")
    work(net, worker, "a", 900)
    work(net, worker, "b", 300)
    done(net, ann, "a")
    net.pass_time(600)
    assert [(job["used_s"], job["share_s"], job["share"]) for job in asked(net, ann)["jobs"]] == [(900.0, 450.0, 0.15)]
    assert [(job["used_s"], job["share_s"], job["share"]) for job in asked(net, bob)["jobs"]] == [(300.0, 150.0, 0.05)]


def test_a_job_that_works_is_counted_until_it_leaves_and_one_that_waits_is_not() -> None:
    net = hub()
    worker, ann = working(net), client(net)
    net.submit(ann, "works")
    net.submit(ann, "waits")
    net.pass_time(30)
    net.say(worker, m.JobWork(request_id="works", seconds=30.0))  # told late
    net.pass_time(30)
    assert [(job["id"], job["used_s"]) for job in asked(net, ann)["jobs"]] == [("works", 60.0), ("waits", 0.0)]
    net.say(ann, m.Cancel(request_id="works"))
    net.say(ann, m.Cancel(request_id="waits"))
    net.pass_time(30)
    assert [(job["id"], job["used_s"]) for job in asked(net, ann)["jobs"]] == [("works", 60.0)]


def test_no_worker_tells_more_work_than_its_machine_ran_nor_that_of_another_gpu() -> None:
    net = hub()
    worker, other, ann = working(net), working(net, "lab"), client(net)
    net.pass_time(10)
    net.submit(ann, "a")
    holder, idle = (worker, other) if net.state.jobs["a"].gpu == "studio" else (other, worker)
    net.say(idle, m.JobWork(request_id="a", seconds=5.0, ended=True))
    net.say(holder, m.JobWork(request_id="a", seconds=-5.0, ended=True))
    assert asked(net, ann)["jobs"][0]["used_s"] == 0.0
    net.say(holder, m.JobWork(request_id="a", seconds=1e9, ended=True))
    assert asked(net, ann)["jobs"][0]["used_s"] == 10.0


def test_a_job_on_one_of_two_slots_uses_half_of_the_gpu() -> None:
    net = hub()
    worker = net.join("worker", gpu="studio", url="http://w:1", features=(m.JobWork.FEATURE,), slots=2)
    net.say(worker, m.Online())
    ann = client(net)
    net.submit(ann, "a")
    net.submit(ann, "b")
    net.say(worker, m.JobWork(request_id="b"))
    work(net, worker, "a", 60)
    assert [(job["id"], job["used_s"]) for job in asked(net, ann)["jobs"]] == [("a", 30.0), ("b", 30.0)]
    assert asked(net, ann)["unused"]["used_s"] == 0


@pytest.mark.parametrize("off", [False, True], ids=["lost", "off, and its connection ended later"])
def test_a_job_of_a_worker_that_is_gone_worked_until_then(*, off: bool) -> None:
    net = hub()
    worker, ann = working(net), client(net)
    monitor = net.join("monitor", gpus=("studio",), features=("power_state",))
    net.submit(ann, "a")
    net.say(worker, m.JobWork(request_id="a"))
    net.pass_time(45)
    net.leave(ann)
    if off:
        net.phase(monitor, "off")
        net.pass_time(60)
    net.leave(worker)
    net.pass_time(601)
    net.pass_time(1)
    assert net.state.jobs["a"].gpu is None
    assert asked(net, client(net))["jobs"][0]["used_s"] == 45.0


@pytest.mark.parametrize("tells", [True, False], ids=["a worker that tells its work", "one that does not"])
@pytest.mark.parametrize("phase", ["", "unknown", "starting", "off"])
def test_the_time_after_a_worker_has_vanished_is_no_work_of_its_job(*, tells: bool, phase: str) -> None:
    net = hub()
    worker, ann = working(net) if tells else net.worker(), client(net)
    monitor = net.join("monitor", gpus=("studio",), features=("power_state",))
    net.submit(ann, "a")
    net.say(worker, m.JobWork(request_id="a"))
    net.pass_time(45)
    net.leave(worker)
    net.pass_time(20)
    if phase:
        net.phase(monitor, phase)
        net.phase(monitor, "starting")
    net.pass_time(10)
    assert asked(net, ann)["jobs"][0]["used_s"] == 45.0
    net.say(ann, m.Cancel(request_id="a"))
    said = asked(net, ann)
    assert (said["jobs"][0]["used_s"], said["unused"]["used_s"]) == (45.0, 30)


def test_a_job_whose_worker_worked_on_while_it_was_away_is_counted_as_the_worker_says() -> None:
    net = hub()
    worker, ann = working(net), client(net)
    net.submit(ann, "a")
    net.say(worker, m.JobWork(request_id="a"))
    net.pass_time(45)
    net.leave(worker)
    net.pass_time(20)
    worker = working(net)
    net.say(worker, m.JobWork(request_id="a", seconds=65.0))
    net.pass_time(5)
    assert asked(net, ann)["jobs"][0]["used_s"] == 70.0
    net.say(worker, m.JobWork(request_id="a", seconds=70.0, ended=True))
    assert asked(net, ann)["jobs"][0]["used_s"] == 70.0


def test_a_worker_that_does_not_come_back_after_a_restart_of_the_hub_worked_until_then() -> None:
    net = hub()
    worker, ann = working(net), client(net)
    net.submit(ann, "a")
    net.say(worker, m.JobWork(request_id="a"))
    net.pass_time(60)
    net.restart()
    ann = client(net)
    net.pass_time(20)
    net.say(ann, m.Cancel(request_id="a"))
    assert asked(net, ann)["jobs"][0]["used_s"] == 60.0


def test_the_work_of_a_job_goes_on_over_a_restart_of_the_hub() -> None:
    net = hub()
    worker, ann = working(net), client(net)
    net.submit(ann, "a")
    net.say(worker, m.JobWork(request_id="a"))
    net.pass_time(60)
    net.restart()
    worker, ann = working(net), client(net)
    net.pass_time(60)
    assert asked(net, ann)["jobs"][0]["used_s"] == 120.0
    net.say(worker, m.JobWork(request_id="a", seconds=110.0, ended=True))
    assert asked(net, ann)["jobs"][0]["used_s"] == 110.0


def in_machine(net: Net, gpu: str, machine: str = "i-1", owner: str | None = None) -> int:
    return net.join("monitor", gpus=(gpu,), features=("power_state",), machines={gpu: machine}, owner=owner)


def today_of(net: Net, fd: int) -> dict[str, tuple[int, float]]:
    gpus = net.status(fd).gpus
    return {gpu["gpu"]: (gpu["today"]["on_s"], gpu["today"]["cost"]) for gpu in gpus}


@pytest.mark.parametrize("restarted", [True, False])
def test_gpus_in_one_machine_cost_it_once_while_any_of_them_runs(*, restarted: bool) -> None:
    net = hub()
    lab, other, ann = in_machine(net, "lab"), in_machine(net, "other", owner="bob"), client(net)
    net.phase(lab, "booted", "lab")
    net.pass_time(HOUR)  # lab runs before it is known that studio is in the same machine
    studio = in_machine(net, "studio")
    for monitor, gpu in ((studio, "studio"), (other, "other")):
        net.phase(monitor, "booted", gpu)
    net.pass_time(HOUR)
    net.phase(lab, "off", "lab")
    net.phase(other, "off", "other")
    if restarted:
        net.restart()
        lab, other, studio, ann = (
            in_machine(net, "lab"), in_machine(net, "other", owner="bob"), in_machine(net, "studio"), client(net)
        )  # fmt: skip
    net.pass_time(HOUR)
    net.phase(studio, "off", "studio")
    net.pass_time(HOUR)
    assert today_of(net, ann) == {"lab": (10_800, 1.8), "studio": (10_800, 1.8), "other": (3600, 1.2)}
    assert asked(net, ann)["totals"]["today"] == {"on_s": 14_400, "cost": 4.8}
    assert asked(net, ann)["days"] == [{"day": "2026-03-10", "on_s": 14_400, "cost": 4.8}]


def test_a_job_in_a_machine_with_two_gpus_uses_half_of_it_and_one_alone_all_of_the_rest() -> None:
    net = hub()
    for gpu in ("lab", "studio"):
        in_machine(net, gpu)
    workers = {gpu: working(net, gpu) for gpu in ("lab", "studio")}
    ann = client(net)
    net.submit(ann, "a")
    work(net, workers[net.state.jobs["a"].gpu or ""], "a", HOUR)
    done(net, ann, "a")
    (job,) = asked(net, ann)["jobs"]
    assert (job["used_s"], job["cost"]) == (HOUR / 2, 0.6)
    assert asked(net, ann)["unused"] == {"used_s": 1800, "cost": 0.6}
    assert net.state.usage.work["lipsync"] == HOUR, "for the estimates it is what it takes"


def test_a_gpu_that_moves_to_a_machine_of_its_own_takes_no_time_with_it_and_loses_none() -> None:
    net = hub()
    lab, studio, ann = in_machine(net, "lab"), in_machine(net, "studio"), client(net)
    for monitor, gpu in ((lab, "lab"), (studio, "studio")):
        net.phase(monitor, "booted", gpu)
    net.pass_time(HOUR)
    net.leave(studio)
    in_machine(net, "studio", "i-2")
    net.pass_time(HOUR)
    assert asked(net, ann)["totals"]["today"]["on_s"] == 3 * HOUR
