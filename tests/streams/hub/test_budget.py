"""Budgets: what is woken when they are spent, and what waiting jobs hear."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.streams.days import BERLIN, day_number
from tests.support.streams.hub_net import Net
from wakestream.streams.hub import budget, placement
from wakestream.streams.hub import events as f
from wakestream.streams.hub.local_time import begin_of
from wakestream.streams.hub.needs import PAIR
from wakestream.streams.hub.state import ALL
from wakestream.streams.protocol import messages as m

HOUR = 3600.0
TODAY = day_number("2026-03-10")
MORNING = begin_of(TODAY, BERLIN) + 8 * HOUR
TOMORROW = begin_of(TODAY + 1, BERLIN)
APRIL = begin_of(day_number("2026-04-01"), BERLIN)


def hub(day: float | None = 2.0, month: float | None = None, **limits: Any) -> Net:
    """A hub whose GPUs cost 1 an hour."""
    budgets = {"budgets": {ALL: (day, month)}}
    return Net(MORNING, **({"price": 1.0, "zone": BERLIN} | budgets | limits))


def on(net: Net, hours: float, gpu: str = "studio") -> None:
    """The GPU is on for so long, and off then."""
    monitor = net.join("monitor", owner=f"of-{gpu}", gpus=(gpu,), features=("power_state", "release"))
    for state in ("starting", "booted"):
        net.say(monitor, m.PowerState(gpu=gpu, state=state))
    net.pass_time(hours * HOUR)
    net.say(monitor, m.PowerState(gpu=gpu, state="off"))
    net.leave(monitor)


def monitor_of(net: Net, gpu: str = "studio") -> int:
    return net.join("monitor", owner=f"of-{gpu}", gpus=(gpu,), features=("power_state", "release"))


def client_of(net: Net) -> int:
    return net.join("client", features=("grant", "done"))


def spent() -> tuple[Net, int, int]:
    """A hub whose budget of the day is spent, with a monitor and a client."""
    net = hub(day=2.0)
    on(net, 2)
    return net, monitor_of(net), client_of(net)


def wakes(net: Net, monitor: int) -> int:
    """How often the monitor was asked for its GPU since the last call."""
    asked = net.heard(monitor, m.Boot) + net.heard(monitor, m.Submit)
    net.sent.pop(monitor, None)
    return len(asked)


def test_a_job_beyond_the_budget_wakes_nothing_and_is_told_when_it_goes_on() -> None:
    net, monitor, client = spent()
    told = net.reply(m.Offline, client)
    assert (told.phase, told.until, told.position, told.eta_s) == ("budget", TOMORROW, 1, None)
    assert told.msg == "the budget is spent; the job is queued and continues at 2026-03-11 00:00 Europe/Berlin"
    assert wakes(net, monitor) == 0


def test_a_client_that_asks_for_a_gpu_that_is_on_does_not_keep_it_on_beyond_the_budget() -> None:
    net = hub(day=2.0)
    monitor = monitor_of(net)
    worker = net.join("worker", owner="of-worker", gpu="studio", url="http://studio:8383")
    net.say(monitor, m.PowerState(gpu="studio", state="online"))
    net.say(worker, m.Online(gpu="studio"))
    client = client_of(net)
    net.say(client, m.Boot(request_id="a", gpu="studio"))
    assert wakes(net, monitor) == 1
    net.pass_time(3 * HOUR)
    wakes(net, monitor)
    net.say(client, m.Boot(request_id="b", gpu="studio"))
    assert [error.code for error in net.heard(client, m.Error)] == ["budget"]
    assert wakes(net, monitor) == 0


def test_a_job_that_waits_for_money_does_not_wait_for_a_monitor() -> None:
    net, _, _ = spent()
    client = net.join("client", features=("grant", "done", "power_state"))
    assert "monitor" not in (net.reply(m.Offline, client).msg or "")
    assert [state.msg for state in net.heard(client, m.PowerState) if "monitor" in (state.msg or "")] == []
    assert placement.no_way(net.state, PAIR) is None


def test_the_new_day_wakes_the_machine_for_the_jobs_that_wait() -> None:
    net, monitor, client = spent()
    net.submit(client)
    net.pass_time(TOMORROW - net.now - 2)
    assert wakes(net, monitor) == 0
    net.sent.pop(client)
    net.pass_time(3)
    assert wakes(net, monitor) == 1
    assert [told.phase for told in net.heard(client, m.Offline)] == ["booting"]


def test_a_month_that_is_spent_waits_for_the_next_one() -> None:
    net = hub(day=2.0, month=2.0)
    on(net, 2)
    assert net.reply(m.Offline, client_of(net)).until == APRIL


def test_a_raised_budget_lets_the_jobs_go_on_after_the_restart() -> None:
    net, _, client = spent()
    net.submit(client)
    net.limits = hub(day=3.0).limits
    net.restart()
    monitor = monitor_of(net)
    assert wakes(net, monitor) == 1
    assert net.reply(m.Offline, client_of(net)).phase == "booting"


def test_a_machine_at_work_gets_no_new_work_and_is_stopped_when_its_last_job_has_ended() -> None:
    net = hub(day=2.0)
    monitor, client = monitor_of(net), client_of(net)
    worker = net.worker()
    assert isinstance(net.submit(client, "at-work"), m.Ack)
    net.say(worker, m.TaskActive(task_id="t"))
    net.pass_time(2 * HOUR)
    net.say(worker, m.TaskActive(task_id="t"))
    assert isinstance(net.submit(client, "new"), m.Offline)
    net.pass_time(1)
    assert not net.heard(monitor, m.Release), "a job holds it"
    net.say(monitor, m.TaskQuery(request_id="q", gpu="studio"))
    assert [answer.active_count for answer in net.heard(monitor, m.TaskQueryResponse)] == [1]
    net.say(client, m.JobDone(request_id="at-work"))
    net.pass_time(1)
    assert [told.gpu for told in net.heard(monitor, m.Release)] == ["studio"]


def test_a_machine_that_waits_for_work_is_stopped_when_the_budget_is_spent() -> None:
    net = hub(day=2.0)
    monitor, client = monitor_of(net), client_of(net)
    net.worker()
    net.pass_time(2 * HOUR)
    net.pass_time(1)
    net.pass_time(1)
    assert [told.gpu for told in net.heard(monitor, m.Release)] == ["studio"]
    net.submit(client)
    answer = net.use(monitor, gpu="studio", drain=True)
    assert (answer.active_count, answer.has_recent_active) == (0, False), "the job that waits does not keep it on"
    assert net.state.gpus["studio"].phase == "draining"


def test_a_monitor_that_waits_for_capacity_gives_up() -> None:
    net = hub(day=2.0)
    on(net, 1.99)
    monitor, client = monitor_of(net), client_of(net)
    net.submit(client)
    net.phase(monitor, "starting")
    net.pass_time(60)
    net.phase(monitor, "no_capacity")
    net.pass_time(1)
    net.pass_time(1)
    assert len(net.heard(monitor, m.Release)) == 1
    net.say(monitor, m.BootResult(success=False, gpu="studio", msg="no capacity"))
    assert "j1" in net.state.jobs


def test_at_midnight_each_gpu_that_is_on_takes_the_jobs_that_it_can_do() -> None:
    net = hub(day=4.0)
    client = net.join("client", features=("grant", "done", "inputs", "kinds"))
    workers = {name: net.worker(name, features=("inputs", "kinds")) for name in ("one", "two")}
    for name, fd in workers.items():
        net.say(fd, m.GpuKinds(number=1, of=1, kind={"name": f"kind_{name}", "outputs": [{"name": "out"}]}))
    while net.now < TOMORROW - 1:
        net.pass_time(min(HOUR, TOMORROW - 1 - net.now))
    for name in workers:
        payload = {"kind": f"kind_{name}", "inputs": {}, "params": {}, "outputs": ["out"]}
        net.say(client, m.Submit(request_id=name, task_type=f"kind_{name}", payload=payload))
    assert [offline.phase for offline in net.heard(client, m.Offline)] == ["budget", "budget"]
    net.pass_time(2)
    assert {ack.request_id: ack.gpu for ack in net.heard(client, m.Ack)} == {"one": "one", "two": "two"}


def test_waiting_jobs_are_told_when_the_budget_is_spent_while_they_wait() -> None:
    net = hub(day=2.0)
    monitor, client = monitor_of(net), client_of(net)
    deployed = net.join("client", owner="old")
    net.submit(client)
    net.submit(deployed, "old-job")
    net.say(monitor, m.PowerState(gpu="studio", state="starting"))
    net.sent.clear()
    net.pass_time(2 * HOUR + 1)
    assert [(told.phase, told.until) for told in net.heard(client, m.Offline)] == [("budget", TOMORROW)]
    assert net.heard(deployed, m.Offline) == [], "an old client knows one offline answer to a job"


def test_a_job_in_line_at_a_gpu_stays_so_when_the_budget_of_another_is_spent() -> None:
    net = hub(budgets={"lab": (2.0, None)})
    net.say(monitor_of(net), m.PowerState(gpu="studio", state="online"))
    net.worker()
    client, lab = net.join("client", features=("queue", "done")), monitor_of(net, "lab")
    net.say(lab, m.PowerState(gpu="lab", state="starting"))
    while isinstance(answer := net.submit(client, f"job-{len(net.state.jobs)}"), m.Ack):
        pass
    assert isinstance(answer, m.JobQueued)
    net.sent.clear()
    net.pass_time(2 * HOUR + 1)
    assert net.state.blocked
    assert net.heard(client, m.Offline) == []
    assert {told.reason for told in net.heard(client, m.JobQueued)} == {"at work: studio"}


def test_a_boot_request_beyond_the_budget_is_refused_with_the_time() -> None:
    net, monitor, client = spent()
    net.say(client, m.Boot(request_id="b"))
    error = net.heard(client, m.Error)[0]
    assert error.code == "budget"
    assert "2026-03-11 00:00 Europe/Berlin" in error.text
    assert wakes(net, monitor) == 0


def test_a_monitor_that_comes_after_the_budget_was_spent_is_asked_for_the_stop_at_once() -> None:
    net = hub(day=2.0)
    net.worker()
    net.pass_time(2 * HOUR)
    net.pass_time(1)
    monitor = monitor_of(net)
    net.pass_time(1)
    assert len(net.heard(monitor, m.Release)) == 1


def test_the_budget_of_one_gpu_leaves_the_others_alone() -> None:
    net = hub(budgets={"studio": (2.0, None)})
    on(net, 2)
    studio, lab, client = monitor_of(net), monitor_of(net, "lab"), client_of(net)
    assert net.reply(m.Offline, client).phase == "booting"
    assert (wakes(net, studio), wakes(net, lab)) == (0, 1)


def test_a_gpu_that_is_blocked_is_not_given_a_job_while_another_is() -> None:
    net = hub(budgets={"studio": (2.0, None)})
    on(net, 2)
    net.worker("studio")
    net.join("worker", owner="lab-worker", gpu="lab", url="http://w:2", features=("range",))
    net.say(net.fd, m.Online())
    client = client_of(net)
    acks = [net.submit(client, f"job-{number}") for number in range(3)]
    assert [ack.gpu for ack in acks if isinstance(ack, m.Ack)] == ["lab"] * 3


def test_the_budget_of_all_counts_what_each_gpu_cost() -> None:
    net = hub(day=3.0, prices={"lab": 2.0})
    on(net, 1)
    on(net, 1, "lab")
    assert [purse.spent for purse in budget.purses(net.state, net.now)] == [3]
    assert net.reply(m.Offline, client_of(net)).phase == "budget"


def reports(net: Net) -> list[tuple[str, int, str]]:
    return [(fact.period, fact.percent, fact.spent) for fact in net.facts if isinstance(fact, f.BudgetReached)]


def test_eighty_percent_and_the_end_are_reported_once_each() -> None:
    net = hub(day=10.0)
    on(net, 7.9)
    assert reports(net) == []
    on(net, 0.1)
    assert reports(net) == [("day", 80, "8.00")]
    on(net, 3)
    net.pass_time(HOUR)
    assert [percent for _, percent, _ in reports(net)] == [80, 100]
    net.restart()
    net.pass_time(HOUR)
    assert len(reports(net)) == 2, "also after a restart"


def test_a_raised_budget_is_reported_again() -> None:
    net, _, _ = spent()
    net.limits = hub(day=2.2).limits
    net.restart()
    net.pass_time(1)
    assert [percent for _, percent, _ in reports(net)] == [100, 80]


def test_each_day_is_reported_for_itself() -> None:
    net = hub(day=2.0)
    on(net, 2)
    net.pass_time(TOMORROW - net.now)
    on(net, 2)
    assert [percent for _, percent, _ in reports(net)] == [100, 100]


def test_the_day_is_the_zones_also_when_the_clock_is_set_forward() -> None:
    spring = day_number("2026-03-29")
    net = Net(begin_of(spring, BERLIN), price=1.0, zone=BERLIN, budgets={ALL: (23.0, None)})
    on(net, 22.99)
    assert not net.state.blocked
    net = Net(begin_of(spring, BERLIN), price=1.0, zone=BERLIN, budgets={ALL: (22.5, None)})
    on(net, 22.6)
    assert net.state.blocked == {ALL: begin_of(spring, BERLIN) + 23 * HOUR}


def test_the_status_has_what_is_left_of_each_budget() -> None:
    net = hub(day=2.0, month=10.0, currency="EUR")
    on(net, 1.5)
    client = net.join("client", features=("hub_status",))
    said = net.status(client)
    assert (said.currency, said.zone) == ("EUR", BERLIN)
    assert said.budgets == (
        {"period": "day", "limit": 2.0, "spent": 1.5, "left": 0.5, "until": TOMORROW},
        {"period": "month", "limit": 10.0, "spent": 1.5, "left": 8.5, "until": APRIL},
    )


def test_a_budget_without_prices_blocks_nothing() -> None:
    net = hub(day=0.01, price=None)
    on(net, 10)
    assert isinstance(net.submit(client_of(net)), m.Offline)
    assert not net.state.blocked


def test_a_price_that_the_monitor_reports_counts_where_the_settings_have_none() -> None:
    net = hub(price=None, budgets={ALL: (1.0, None)})
    machine = {"gpus": ("studio",), "features": ("power_state",), "machine": "i-1"}
    monitor = net.join("monitor", **machine, price=0.5, currency="USD")
    net.phase(monitor, "booted")
    net.pass_time(2 * HOUR)
    assert [purse.spent for purse in budget.purses(net.state, net.now)] == [1]
    net.leave(monitor)
    net.join("monitor", **machine)
    net.pass_time(1)
    assert net.state.blocks("studio"), "a monitor that does not say the price again does not make the GPU free"
    assert (net.state.price_of("studio"), net.state.currency) == (Decimal("0.5"), "USD")
    net.restart()
    assert net.state.price_of("studio") == Decimal("0.5")
    net.limits = hub(price=3.0).limits
    net.restart()
    assert net.state.price_of("studio") == 3, "the settings count most"
    net.limits = hub(price=None, currency="EUR").limits
    net.restart()
    assert net.state.price_of("studio") is None, "dollars are no euros"


@pytest.mark.parametrize("price", [0.0, -1.0, 1e9, float("inf"), float("nan")])
def test_a_price_that_cannot_be_is_not_believed(price: float) -> None:
    net = hub(price=None)
    net.join("monitor", gpus=("studio",), features=("power_state",), machine="i-1", price=price)
    assert net.state.gpus["studio"].machine == "i-1"
    assert net.state.price_of("studio") is None


def test_a_license_that_has_spent_its_budget_waits_until_the_next_day_and_others_go_on() -> None:
    net = hub(day=None, license_budget=1.0)
    monitor, features = monitor_of(net), ("grant", "done", "kinds", "hub_status")
    big, small = (net.join("client", owner=owner, features=features) for owner in ("big", "small"))
    net.say(monitor, m.PowerState(gpu="studio", state="booted"))
    worker = net.worker()
    assert isinstance(net.submit(big, "b1"), m.Ack)
    net.pass_time(HOUR - 2)
    assert isinstance(net.submit(big, "b2"), m.Ack)
    net.pass_time(10)
    net.say(big, m.JobDone(request_id="b2"))
    net.pass_time(10)
    told = net.reply(m.Offline, big, "b3")
    assert (told.phase, told.until, told.why) == ("budget", TOMORROW, "this license has spent its budget for the day")
    assert [job for job, held in net.state.jobs.items() if held.gpu] == ["b1"], "work that has begun goes on"
    assert isinstance(net.submit(small, "s1"), m.Ack)
    for asker, left in ((big, 0.0), (small, 1.0)):
        shown = net.status(asker).license_budget or {}
        assert (shown["period"], shown["limit"], shown["left"], shown["until"]) == ("day", 1.0, left, TOMORROW)
    net.say(big, m.JobDone(request_id="b1"))
    net.say(small, m.JobDone(request_id="s1"))
    assert wakes(net, monitor) == 3, "those of the jobs that were granted"
    net.leave(worker)
    net.phase(monitor, "off")
    net.say(big, m.Boot(request_id="wake"))
    assert [error.code for error in net.heard(big, m.Error)] == ["budget"]
    assert wakes(net, monitor) == 0, "nor does the job that waits wake it"
    net.restart()
    monitor, big = monitor_of(net), net.join("client", owner="big", features=features)
    told = net.reply(m.Offline, big, "b3")
    assert (told.phase, wakes(net, monitor)) == ("budget", 0), "the hub knows it after a restart"
    net.now = TOMORROW
    net.pass_time(1)
    assert wakes(net, monitor) == 1
    net.worker()
    assert net.state.jobs["b3"].gpu == "studio"


def test_a_job_that_used_more_than_its_licenses_budget_and_lost_its_gpu_goes_on_the_next_day() -> None:
    net = hub(day=None, license_budget=1.0)
    monitor, client = monitor_of(net), net.join("client", features=("queue", "done"))
    net.phase(monitor, "booted")
    worker = net.worker()
    net.submit(client)
    net.pass_time(2 * HOUR)
    net.leave(worker)
    net.phase(monitor, "off")
    assert net.reply(m.Offline, client).phase == "budget"
    net.now = TOMORROW
    net.pass_time(1)
    net.phase(monitor, "booted")
    net.worker()
    net.pass_time(1)
    assert net.state.jobs["j1"].gpu == "studio"
