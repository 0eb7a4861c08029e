"""A GPU that is on and whose monitor has gone: people and its worker learn that nothing switches it off."""

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub.state import UNWATCHED
from wakestream.streams.protocol import messages as m


def why(net: Net) -> str | None:
    client = net.join("client", features=("hub_status",))
    return net.status(client).gpus[0].get("orphan")


def watched(net: Net) -> tuple[int, int]:
    """The monitor and the worker of a GPU that is online."""
    monitor = net.join("monitor", gpus=("studio",), features=("power_state",), idle_after=60.0)
    net.phase(monitor, "booted")
    worker = net.worker("studio", features=("monitor_state",))
    net.phase(monitor, "online")
    return monitor, worker


def warnings(net: Net) -> list[str]:
    return [fact.cause for fact in net.facts if isinstance(fact, f.OrphanFound)]


def test_a_monitor_that_is_gone_for_a_minute_while_its_gpu_is_on_is_reported_until_it_is_back(net: Net) -> None:
    monitor, worker = watched(net)
    net.leave(monitor)
    net.pass_time(59.0)
    assert (why(net), warnings(net), net.heard(worker, m.MonitorState)) == (None, [], [])
    net.pass_time(1.0)
    net.pass_time(60.0)
    assert (why(net), warnings(net)) == (UNWATCHED, [UNWATCHED])
    assert net.heard(worker, m.MonitorState) == [m.MonitorState(gpu="studio", connected=False)]
    monitor = net.monitor("studio")
    assert why(net) is None
    assert net.heard(worker, m.MonitorState)[-1] == m.MonitorState(gpu="studio", connected=True)


@pytest.mark.parametrize(
    ("features", "then"),
    [
        (("monitor_state",), "Then nothing switches the machine off; start `wakestream monitor` for it again"),
        (("monitor_state", "poweroff"), "Then its worker switches the machine off by its --poweroff-after"),
    ],
)
def test_it_is_said_from_the_first_answer_on_what_happens_when_the_monitor_of_a_gpu_that_is_on_has_gone(
    net: Net, features: tuple[str, ...], then: str
) -> None:
    monitor, client = net.monitor("studio"), net.join("client", features=("hub_status",))
    others = [net.monitor(gpu) for gpu in ("attic", "cellar")]
    net.worker("studio", features=features)
    for other, gpu in zip(others, ("attic", "cellar"), strict=True):
        net.phase(other, "off", gpu)
    assert net.status(client).gpus[0].get("amiss") is None
    net.leave(monitor)
    for passed in (0, 20):
        net.pass_time(passed)
        (gpu,) = [gpu for gpu in net.status(client).gpus if gpu["gpu"] == "studio"]
        said = f"its monitor is not connected; in {60 - passed} s the hub counts it as gone. {then}"
        assert (gpu["amiss"], gpu["why"], gpu.get("orphan")) == (said, said, None)
    net.leave(others[0])
    net.pass_time(40)
    gpus = {gpu["gpu"]: gpu for gpu in net.status(client).gpus}
    assert [(gpu.get("amiss"), gpu.get("orphan")) for gpu in gpus.values()] == [
        (None, UNWATCHED), (None, None), (None, None),
    ]  # fmt: skip


def test_a_worker_that_connects_meanwhile_is_told_too_and_an_old_one_is_not(net: Net) -> None:
    monitor, _ = watched(net)
    net.leave(monitor)
    net.pass_time(60.0)
    worker = net.worker("studio", features=("monitor_state",))
    assert net.heard(worker, m.MonitorState) == [m.MonitorState(gpu="studio", connected=False)]
    assert net.heard(net.worker("studio"), m.MonitorState) == []


def test_a_restarted_hub_knows_that_there_was_a_monitor(net: Net) -> None:
    watched(net)
    net.restart()
    worker = net.worker("studio", features=("monitor_state",))
    net.pass_time(60.0)
    assert (why(net), net.heard(worker, m.MonitorState)[-1].connected) == (UNWATCHED, False)


def test_a_monitor_that_was_back_before_the_hub_was_killed_is_reported_when_it_is_gone_again(net: Net) -> None:
    monitor, _ = watched(net)
    net.leave(monitor)
    net.pass_time(60.0)
    net.monitor("studio")
    net.restart()
    net.pass_time(60.0)
    assert [cause for cause in warnings(net) if cause] == [UNWATCHED, UNWATCHED]


def test_a_gpu_that_is_off_or_that_never_had_a_monitor_is_not_reported(net: Net) -> None:
    net.worker("attic")
    monitor = net.monitor("studio")
    net.phase(monitor, "off")
    net.leave(monitor)
    net.pass_time(600.0)
    assert warnings(net) == []


def test_another_monitor_of_the_gpu_or_one_that_names_none_counts(net: Net) -> None:
    monitor, _ = watched(net)
    net.leave(monitor)
    net.join("monitor")
    net.pass_time(600.0)
    assert warnings(net) == []


def test_a_machine_that_runs_without_a_request_says_so_until_a_job_has_it(net: Net) -> None:
    text = "it runs without a request: it is left alone until it is used (the provider says running)"
    monitor = net.monitor("studio")
    net.phase(monitor, "booted", msg=text, orphan=True)
    net.worker("studio")
    net.phase(monitor, "online", msg="its worker is initialized")
    assert why(net) == text
    net.submit(net.join("client"))
    assert why(net) is None


def test_the_monitor_of_another_gpu_in_the_machine_switches_it_off_too(net: Net) -> None:
    box = {"features": ("power_state",), "idle_after": 60.0}
    studio = net.join("monitor", gpus=("studio",), machines={"studio": "box"}, **box)
    net.join("monitor", gpus=("attic",), machines={"attic": "box"}, **box)
    net.worker("studio")
    net.leave(studio)
    net.pass_time(600.0)
    assert warnings(net) == []
