"""Who asks for a boot is answered, and leaves no open question behind."""

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m


def test_a_boot_while_a_gpu_is_online_is_answered_at_once_by_the_hub_and_still_keeps_the_gpu_on(net: Net) -> None:
    net.worker()
    monitor, attic, client, other = net.monitor(), net.monitor("attic"), net.join("client"), net.join("client")
    before = len(net.sent[other])
    for number in range(100):
        net.pass_time(1.0)
        net.say(client, m.Boot(request_id=f"b{number}"))
    assert [(told.request_id, told.gpu) for told in net.heard(client, m.Booted)] == [
        (f"b{number}", "studio") for number in range(100)
    ]
    assert len(net.heard(monitor, m.Boot)) == 100
    assert len(net.sent[other]) == before
    assert not net.heard(client, m.Error)
    assert not net.heard(attic, m.Boot)
    net.say(client, m.Boot(request_id="b", gpu="attic"))
    assert len(net.heard(client, m.Booted)) == 100, "its own monitor answers"
    assert [boot.request_id for boot in net.heard(attic, m.Boot)] == ["b"]


def test_a_boot_goes_to_the_monitor_of_its_gpu_and_without_a_name_to_one_of_each_machine(net: Net) -> None:
    features, box = ("power_state",), "box-1"
    a, b = (net.join("monitor", gpus=(gpu,), features=features, machine=box) for gpu in ("a", "b"))
    other, deployed = net.monitor("c"), net.join("monitor")
    monitors, client = (a, b, other, deployed), net.join("client")
    net.say(client, m.Boot(request_id="named", gpu="b"))
    assert [len(net.heard(fd, m.Boot)) for fd in monitors] == [0, 1, 0, 1]
    net.say(client, m.Boot(request_id="any"))
    assert [len(net.heard(fd, m.Boot)) for fd in monitors] == [1, 1, 1, 2]


def test_a_wait_is_estimated_from_the_boots_of_the_gpu_that_is_coming() -> None:
    net = Net()
    monitors = {gpu: net.monitor(gpu) for gpu in ("quick", "slow")}
    for gpu, seconds in (("quick", 10.0), ("slow", 100.0)):
        net.state.gpus[gpu].boots = [seconds] * 3
    net.phase(monitors["quick"], "failed", "quick")
    net.phase(monitors["slow"], "starting", "slow")
    client = net.join("client", features=("done",))
    net.submit(client)
    assert net.heard(client, m.Offline)[-1].eta_s == {"p50": 100.0, "p90": 100.0}
    net.phase(monitors["quick"], "starting", "quick")
    net.submit(client, "j2")
    assert net.heard(client, m.Offline)[-1].eta_s == {"p50": 10.0, "p90": 10.0}


@pytest.mark.parametrize("features", [("done",), ("queue", "done", "power_state")])
def test_a_gpu_whose_worker_comes_back_to_a_restarted_hub_has_not_booted_again(
    features: tuple[str, ...],
) -> None:
    net = Net()
    monitor = net.monitor("studio", "release")
    net.phase(monitor, "off")
    net.submit(net.join("client", features=features))
    net.phase(monitor, "starting")
    net.pass_time(4.0)
    net.worker()
    net.pass_time(20.0)
    net.restart()
    monitor = net.monitor("studio", "release")
    net.submit(net.join("client", features=features), "j2")
    net.phase(monitor, "online")  # before its worker has connected again
    net.pass_time(16.0)
    worker = net.worker()
    assert (net.state.gpus["studio"].phase, net.state.gpus["studio"].boots) == ("online", [4.0])
    net.leave(worker)
    net.phase(monitor, "off")
    net.submit(net.join("client", features=features), "j3")
    net.phase(monitor, "starting")
    net.pass_time(9.0)
    net.worker()
    assert len(net.state.gpus["studio"].boots) == 2
