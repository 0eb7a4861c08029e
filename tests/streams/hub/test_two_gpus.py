"""Two GPUs at one hub: work at one neither starts the other nor keeps it on."""

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub.power import ONE_STOP
from wakestream.streams.protocol import messages as m

ACTIVE = m.TaskActive(task_id="t")


def copies(net: Net, monitor: int) -> list[m.Message]:
    return [each for each in net.sent.get(monitor, []) if isinstance(each, m.Submit | m.TaskActive)]


def test_a_granted_job_is_reported_to_its_gpus_monitor_only(net: Net) -> None:
    studio, attic = net.monitor("studio"), net.monitor("attic")
    worker, client = net.worker("studio"), net.join("client")
    net.submit(client)
    net.say(worker, ACTIVE)
    assert copies(net, studio) == [m.Submit(request_id="j1"), ACTIVE]
    assert copies(net, attic) == []


@pytest.mark.parametrize("unnamed", ["monitor", "gpu"])
def test_a_monitor_gets_all_messages_if_it_or_the_gpu_has_no_name(net: Net, unnamed: str) -> None:
    worker, client = net.worker("gpu" if unnamed == "gpu" else "studio"), net.join("client")
    monitors = net.join("monitor") if unnamed == "monitor" else None, net.monitor("studio")
    net.submit(client)
    net.say(worker, ACTIVE)
    assert copies(net, monitors[0] or monitors[1]) == [m.Submit(request_id="j1"), ACTIVE]


def of_machine(net: Net, gpu: str, machine: str = "i-1", owner: str | None = None) -> int:
    features = ("power_state", "machines")
    return net.join("monitor", gpus=(gpu,), features=features, machines={gpu: machine}, owner=owner)


def asks(net: Net, monitor: int, gpu: str) -> m.TaskQueryResponse:
    return net.use(monitor, gpu=gpu, drain=True)


def test_a_machine_is_in_use_while_one_of_the_gpus_in_it_is(net: Net) -> None:
    studio, attic = of_machine(net, "studio"), of_machine(net, "attic")
    client = net.join("client", features=("done",))
    net.worker("studio")
    net.submit(client)
    net.worker("attic")
    assert asks(net, attic, "attic").active_count == 1
    net.say(client, m.JobDone(request_id="j1"))
    assert asks(net, attic, "attic") == m.TaskQueryResponse(request_id="q", active_count=0, has_recent_active=False)
    assert {gpu.phase for gpu in net.state.gpus.values()} == {"draining"}, "a stop of the machine stops both"
    net.say(studio, m.TaskQuery(request_id="q", gpu="studio", drain=True))
    assert net.heard(studio, m.TaskQueryResponse) == [], "one of them stops it"
    net.pass_time(ONE_STOP)
    assert asks(net, studio, "studio").active_count == 0, "but perhaps it could not"


def test_monitors_of_one_machine_with_different_licenses_are_told_at_once_and_so_is_everybody_who_asks(
    net: Net,
) -> None:
    client, first = net.join("client", features=("hub_status",)), of_machine(net, "studio", "host", "ann")
    assert "amiss" not in net.status(client).gpus[0]
    second = of_machine(net, "attic", "host", "bob")
    said = (
        "the machine host is also that of the GPU {}, whose monitor has another license, so each starts and stops it. "
        "Give both monitors one key, or start one monitor with both names"
    )
    (told,) = net.heard(second, m.Error)
    assert (told.code, told.text) == ("machine_shared", said.format("studio"))
    gpus = {gpu["gpu"]: (gpu.get("amiss"), gpu.get("why")) for gpu in net.status(client).gpus}
    assert gpus == {name: (said.format(other),) * 2 for name, other in (("studio", "attic"), ("attic", "studio"))}
    net.leave(first)
    net.leave(second)
    assert net.heard(of_machine(net, "attic", "host", "bob"), m.Error) == []
    assert [gpu["gpu"] for gpu in net.status(client).gpus if "amiss" in gpu] == []


def test_a_monitor_that_may_stop_its_machine_and_is_gone_holds_no_other_one_back(net: Net) -> None:
    studio, attic = of_machine(net, "studio"), of_machine(net, "attic")
    assert asks(net, attic, "attic").active_count == 0
    assert asks(net, attic, "attic").active_count == 0, "nor itself"
    net.leave(attic)
    assert asks(net, studio, "studio").active_count == 0


@pytest.mark.parametrize(("machine", "owner"), [("i-2", None), ("i-1", "other")])
def test_another_machine_or_license_does_not_keep_it_on(net: Net, machine: str, owner: str | None) -> None:
    of_machine(net, "studio", machine, owner)
    attic = of_machine(net, "attic")
    net.worker("studio")
    net.submit(net.join("client"))
    assert asks(net, attic, "attic").active_count == 0


def test_a_start_of_the_machine_is_told_to_the_monitor_of_its_other_gpu(net: Net) -> None:
    studio, attic, far = of_machine(net, "studio"), of_machine(net, "attic"), of_machine(net, "far", "i-2")
    net.phase(studio, "off")
    net.phase(studio, "starting", age=0)
    net.phase(studio, "starting")
    on = m.PowerState(gpu="attic", state="starting", msg="its machine is on for the GPU studio")
    assert net.heard(attic, m.PowerState) == [on]
    assert net.heard(far, m.PowerState) == net.heard(studio, m.PowerState) == []
    net.leave(attic)
    assert net.heard(of_machine(net, "attic"), m.PowerState) == [on]


def test_the_machine_of_a_monitor_of_several_gpus_is_one(net: Net) -> None:
    both = {"studio": "studio", "attic": "studio"}
    monitor = net.join("monitor", gpus=("studio", "attic"), features=("power_state",), machines=both)
    net.worker("studio")
    net.submit(net.join("client"))
    assert net.use(monitor, drain=True).active_count == 1


def test_the_old_name_of_a_renamed_gpu_neither_keeps_its_jobs_nor_costs_for_ever(net: Net) -> None:
    client = net.join("client", features=("done", "queue"))
    monitor = net.monitor("studio")
    net.phase(monitor, "starting")
    worker = net.worker("studio")
    net.phase(monitor, "online")
    net.submit(client)
    net.pass_time(100.0)
    net.leave(monitor)
    net.leave(worker)
    monitor = net.monitor("attic")
    net.phase(monitor, "online")
    net.worker("attic")
    for _ in range(70):
        net.pass_time(60.0)
    assert net.state.gpus["studio"].account.ran(0.0, net.now) <= 160.0, "until the last sign of life, and one tick"
    assert net.state.gpus["studio"].leases == {}
    assert net.state.jobs["j1"].gpu == "attic"


def test_a_second_monitor_of_a_gpu_is_refused_while_the_first_is_connected(net: Net) -> None:
    first = net.join("monitor", gpus=("studio",), instance="one")
    second = net.join("monitor", gpus=("studio",), instance="two")
    assert net.heard(second, m.Error)[0].text == "another monitor of the GPU studio is connected; stop one of them"
    assert [*net.state.monitors] == [first]
    net.leave(first)
    second = net.join("monitor", gpus=("studio",), instance="two")
    assert [*net.state.monitors] == [second]


def test_a_monitor_that_connects_again_replaces_its_former_connection(net: Net) -> None:
    net.join("monitor", gpus=("studio",), instance="one")
    again = net.join("monitor", gpus=("studio",), instance="one")
    assert [*net.state.monitors] == [again]


def test_older_monitors_and_those_that_name_no_gpu_are_let_in(net: Net) -> None:
    old = [net.monitor("studio"), net.monitor("studio"), net.join("monitor"), net.join("monitor", instance="one")]
    assert [*net.state.monitors] == old


@pytest.mark.parametrize("before", [True, False])
def test_a_machine_that_its_only_monitor_says_is_off_is_not_paid_for_though_another_one_is_gone(before: bool) -> None:
    net = Net()
    studio, attic = of_machine(net, "studio"), of_machine(net, "attic")
    for fd, gpu in ((studio, "studio"), (attic, "attic")):
        net.phase(fd, "off", gpu)
        net.phase(fd, "booted", gpu)
    net.pass_time(100.0)
    if before:
        net.leave(studio)
    net.phase(attic, "off", "attic")
    if not before:
        net.leave(studio)
    for _ in range(int(net.limits.abandoned) + 10):
        net.pass_time(1.0)
    account = net.state.gpus["attic"].account
    assert account.running_since is None
    assert account.ran(0.0, net.now) == pytest.approx(50.0, abs=1.0), "half of it"


@pytest.mark.parametrize("late", [False, True])
def test_a_machine_that_a_monitor_may_stop_gets_no_job_because_the_other_one_says_online(
    net: Net, *, late: bool
) -> None:
    studio, attic = of_machine(net, "studio"), of_machine(net, "attic")
    net.worker("studio")
    net.worker("attic")
    assert asks(net, attic, "attic").active_count == 0
    if late:
        net.phase(attic, "stopping", "attic")
        net.pass_time(ONE_STOP + 1.0)
    net.phase(studio, "online")
    client = net.join("client")
    assert isinstance(net.submit(client), m.Offline)
    net.phase(attic, "online", "attic")
    assert net.heard(client, m.Ack)[-1].gpu == "attic", "the stop was called off"
    net.pass_time(net.limits.draining + 1.0)
    assert net.state.gpus["studio"].online


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_a_worker_that_is_back_while_its_machine_may_be_stopped_gets_a_job_when_the_stop_is_called_off(
    net: Net, two: bool, again: bool
) -> None:
    attic, worker = of_machine(net, "attic"), net.worker("attic")
    if two:
        of_machine(net, "studio")
    assert asks(net, attic, "attic").active_count == 0
    if again:
        net.restart()
    else:
        net.leave(worker)
    net.worker("attic")
    attic, client = of_machine(net, "attic"), net.join("client")
    assert isinstance(net.submit(client), m.Offline)
    net.phase(attic, "online", "attic")
    assert net.heard(client, m.Ack)


def test_a_worker_whose_machine_is_not_stopped_in_time_gets_jobs_again(net: Net) -> None:
    attic = of_machine(net, "attic")
    assert asks(net, attic, "attic").active_count == 0
    net.leave(attic)
    client = net.join("client")
    net.worker("attic")
    net.submit(client)
    for _ in range(int(net.limits.draining) + 2):
        net.pass_time(1.0)
    assert net.heard(client, m.Ack)
