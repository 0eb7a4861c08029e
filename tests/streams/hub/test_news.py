"""The hub's webhooks about power and money: what makes one due, what it says, and how long it is kept."""

from typing import Any

from tests.support.streams.days import BERLIN, day_number
from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub.local_time import begin_of
from wakestream.streams.hub.state import ALL
from wakestream.streams.protocol import messages as m

HOUR = 3600.0
MORNING = begin_of(day_number("2026-03-10"), BERLIN) + 8 * HOUR


def hub(**limits: Any) -> Net:
    return Net(MORNING, **({"price": 1.0, "currency": "EUR", "zone": BERLIN, "webhook": True} | limits))


def told(net: Net) -> list[dict[str, Any]]:
    """What was sent, without ids and times."""
    news = [command.news.news for command in net.commands if isinstance(command, f.Notify)]
    return [{name: value for name, value in each.items() if name not in ("id", "at")} for each in news]


def events(net: Net) -> list[str]:
    return [each["event"] for each in told(net)]


def test_a_machine_that_starts_and_stops_is_told_with_its_cost() -> None:
    net = hub()
    monitor = net.monitor()
    for phase in ("off", "starting", "booted"):
        net.phase(monitor, phase, msg="woken by a job")
        net.pass_time(60)
    net.worker()
    net.pass_time(2 * HOUR)
    for phase in ("draining", "stopping", "off"):
        net.phase(monitor, phase, msg="no work for 1800 s")
        net.pass_time(60)
    assert told(net) == [
        {"event": "power.started", "gpu": "studio", "why": "woken by a job"},
        {
            "event": "power.stopped", "gpu": "studio", "why": "no work for 1800 s", "on_s": 7440, "cost": 2.07,
            "currency": "EUR",
        },
    ]  # fmt: skip


def test_a_worker_without_a_monitor_is_told_too() -> None:
    net = hub()
    monitor = net.monitor()
    net.phase(monitor, "off")
    net.worker()
    assert told(net) == [{"event": "power.started", "gpu": "studio", "why": ""}]


def test_a_boot_that_fails_is_told_and_one_that_waits_for_capacity_is_not() -> None:
    net = hub()
    monitor = net.monitor()
    for phase in ("off", "starting", "no_capacity", "starting", "no_capacity", "failed", "failed"):
        net.phase(monitor, phase, msg=f"it is {phase}")
    assert told(net) == [{"event": "power.failed", "gpu": "studio", "why": "it is failed"}]


def test_a_lost_worker_and_a_restart_of_the_hub_are_no_news_of_power() -> None:
    net = hub()
    monitor, worker = net.monitor(), net.worker()
    net.leave(worker)
    net.worker()
    net.phase(monitor, "unknown")
    net.phase(monitor, "online")
    before = len(events(net))
    net.restart()
    net.phase(net.monitor(), "online")
    net.worker()
    assert before <= 1
    assert [command for command in net.commands if isinstance(command, f.Notify) and command.news.at > MORNING] == []


def test_both_steps_of_a_budget_are_told() -> None:
    net = hub(budgets={ALL: (2.0, None)})
    net.worker()
    net.pass_time(1.7 * HOUR)
    net.pass_time(0.3 * HOUR)
    until = begin_of(day_number("2026-03-11"), BERLIN)
    common = {"period": "day", "limit": 2.0, "currency": "EUR", "until": until}
    assert told(net) == [
        {"event": "budget.warning", "percent": 80, "spent": 1.7, **common},
        {"event": "budget.spent", "percent": 100, "spent": 2.0, **common},
    ]


def test_a_machine_that_runs_without_a_request_is_told() -> None:
    net = hub()
    monitor = net.monitor()
    net.phase(monitor, "off")
    net.say(monitor, m.PowerState(gpu="studio", state="booted", msg="it runs without a request", orphan=True))
    assert events(net) == ["power.orphan", "power.started"]


def test_without_a_webhook_nothing_is_owed() -> None:
    net = hub(webhook=False)
    monitor = net.monitor()
    for phase in ("off", "starting", "booted"):
        net.phase(monitor, phase)
    assert events(net) == []
    assert not net.state.news


def test_what_is_owed_is_sent_again_after_a_restart_and_what_is_settled_is_not() -> None:
    net = hub()
    monitor = net.monitor()
    net.phase(monitor, "failed")
    net.phase(monitor, "starting")
    net.phase(monitor, "booted")
    first, second = [command.news for command in net.commands if isinstance(command, f.Notify)]
    net.happen(f.NewsSettled(first.delivery))
    net.happen(f.NewsSettled(first.delivery))
    net.happen(f.NewsSettled("unknown"))
    net.commands.clear()
    net.restart()
    assert [command.news for command in net.commands if isinstance(command, f.Notify)] == [second]
    assert second.news["id"] == second.delivery


def test_two_events_at_one_moment_have_two_ids() -> None:
    net = hub()
    one, other = net.monitor("studio"), net.join("monitor", owner="other", gpus=("lab",), features=("power_state",))
    net.phase(one, "failed")
    net.phase(other, "failed", gpu="lab")
    assert len({command.news.delivery for command in net.commands if isinstance(command, f.Notify)}) == 2


def test_the_oldest_of_too_many_is_given_up() -> None:
    net = hub()
    monitor = net.monitor()
    for _ in range(1200):
        net.phase(monitor, "failed")
        net.phase(monitor, "unknown")
        net.now += 1
    assert len(net.state.news) == 1000
