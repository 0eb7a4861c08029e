"""Keep-warm hours: a GPU that is on before work begins, in virtual time."""

from typing import Any

import pytest

from tests.support.streams.days import BERLIN, day_number
from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub.keep_warm import AGAIN, LEAD, LONGEST_LEAD
from wakestream.streams.hub.local_time import moment
from wakestream.streams.hub.state import ALL
from wakestream.streams.protocol import messages as m

HOUR = 3600.0
FRIDAY = day_number("2026-03-13")
NINE = moment(FRIDAY, 9 * 60, BERLIN)
HOURS = "Mon-Fri 09:00-18:00"


def hub(now: float, hours: str = HOURS, **limits: Any) -> Net:
    return Net(now, **({"zone": BERLIN, "keep_warm": {ALL: (hours,)}} | limits))


def boots(net: Net, monitor: int) -> list[str | None]:
    return [boot.gpu for boot in net.heard(monitor, m.Boot)]


def ticks(net: Net, seconds: float, every: float = 10.0) -> None:
    for _ in range(int(seconds / every)):
        net.pass_time(every)


@pytest.mark.parametrize(("took", "lead"), [(None, LEAD), (90.0, 90.0), (9000.0, LONGEST_LEAD)])
def test_a_gpu_is_woken_before_the_hours_begin_by_the_time_that_most_boots_take(
    took: float | None, lead: float
) -> None:
    net = hub(NINE - 3 * HOUR)
    net.state.boots.extend((NINE - 9 * HOUR, took) for _ in range(5) if took)
    monitor = net.monitor()
    net.phase(monitor, "off")
    net.pass_time(3 * HOUR - lead - 1)
    assert boots(net, monitor) == []
    net.pass_time(1)
    assert boots(net, monitor) == ["studio"]


def test_a_gpu_that_does_not_start_is_asked_for_again_now_and_then() -> None:
    net = hub(NINE)
    monitor = net.monitor()
    net.phase(monitor, "off")
    ticks(net, AGAIN - 20)
    assert len(boots(net, monitor)) == 1
    net.phase(monitor, "starting")
    ticks(net, 3 * AGAIN)
    assert len(boots(net, monitor)) == 1, "it is being started"
    net.phase(monitor, "failed")
    ticks(net, 2 * AGAIN)
    assert len(boots(net, monitor)) == 3


def test_it_is_not_stopped_in_the_hours_and_is_after_them() -> None:
    net = hub(NINE)
    monitor = net.monitor()
    net.worker()
    assert net.status(net.join("client")).gpus[0]["warm_until"] == NINE + 9 * HOUR
    net.pass_time(8 * HOUR)
    assert net.in_use(monitor)
    assert net.state.gpus["studio"].phase == "online"
    net.pass_time(HOUR - 1)
    assert net.in_use(monitor)
    net.pass_time(1)
    assert not net.in_use(monitor)
    assert net.state.gpus["studio"].phase == "draining"


def test_a_machine_whose_worker_never_came_may_be_stopped_in_the_hours() -> None:
    net = hub(NINE + HOUR)
    monitor = net.monitor()
    net.phase(monitor, "failed")
    assert not net.in_use(monitor)


def test_the_budget_wins() -> None:
    net = hub(NINE, price=1.0, budgets={ALL: (2.0, None)})
    monitor = net.join("monitor", gpus=("studio",), features=("power_state", "release"))
    net.worker()
    net.pass_time(HOUR)
    assert net.in_use(monitor)
    net.pass_time(HOUR)
    net.pass_time(1)
    assert len(net.heard(monitor, m.Release)) == 1
    assert not net.in_use(monitor)
    net.phase(monitor, "off")
    net.sent.clear()
    ticks(net, 3 * HOUR, 60)
    assert boots(net, monitor) == []


def test_hours_of_one_gpu_are_not_those_of_another() -> None:
    net = hub(NINE, keep_warm={"studio": (HOURS,)})
    studio, lab = net.monitor(), net.join("monitor", owner="other", gpus=("lab",), features=("power_state",))
    net.phase(studio, "off")
    net.phase(lab, "off", gpu="lab")
    net.pass_time(1)
    assert (boots(net, studio), boots(net, lab)) == (["studio"], [])


def test_several_hours_of_a_gpu_add_up() -> None:
    net = hub(NINE - HOUR, keep_warm={ALL: (HOURS,), "studio": ("Fri 08:00-09:00",)})
    monitor = net.monitor()
    net.worker()
    assert net.in_use(monitor)
    net.pass_time(2 * HOUR)
    assert net.in_use(monitor)


def test_without_a_monitor_nothing_is_asked() -> None:
    net = hub(NINE)
    net.pass_time(1)
    assert not [fact for fact in net.facts if isinstance(fact, f.GpuWarmed)]


def test_a_hub_that_restarts_in_the_hours_wakes_what_is_off() -> None:
    net = hub(NINE + HOUR)
    net.phase(net.monitor(), "off")
    net.restart()
    monitor = net.monitor()
    net.pass_time(1)
    assert boots(net, monitor) == ["studio"]
