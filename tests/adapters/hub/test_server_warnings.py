"""What the hub logs about monitors that contradict each other."""

from tests.support.log_lines import logged
from tests.support.streams.hub_net import Net
from wakestream.adapters.hub.fact_log import log_fact
from wakestream.streams.hub import events as f


def warnings(net: Net) -> list[str]:
    registered = [fact for fact in net.facts if isinstance(fact, f.ConnectionRegistered)][-1]
    with logged("WARNING") as lines:
        log_fact(registered, net.state, "127.0.0.1")
    return lines


def test_two_licenses_for_the_monitors_of_one_machine_are_named() -> None:
    net = Net()
    net.join("monitor", gpus=("a",), machines={"a": "box"})
    assert warnings(net) == []
    net.join("monitor", gpus=("b",), machines={"b": "box"})
    assert warnings(net) == []
    net.join("monitor", gpus=("c",), machines={"c": "box"}, owner="other")
    (line,) = warnings(net)
    assert line.startswith("the monitors of c and a have one --machine and different licenses")


def test_two_monitors_of_one_gpu_are_named() -> None:
    net = Net()
    net.monitor("a")
    net.monitor("a")
    (line,) = warnings(net)
    assert "are monitors of one GPU, a" in line
