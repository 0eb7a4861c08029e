"""A worker that repeats one message without end slows down no other peer."""

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m

REPEATED = pytest.mark.parametrize("message", [m.TaskActive(task_id="t"), m.Online()])


@REPEATED
def test_relays_to_monitors_and_clients_are_rate_limited(message: m.Message) -> None:
    net = Net(passed_on=5)
    monitor, client, worker = net.monitor(), net.join("client"), net.worker()
    net.sent.clear()
    for _ in range(100):
        net.say(worker, message)
    assert len(net.sent[monitor]) == 5
    assert len(net.sent.get(client, [])) <= 5
    net.pass_time(1.0)
    net.say(worker, message)
    assert len(net.sent[monitor]) == 6
    assert net.state.gpus["studio"].online


@REPEATED
def test_it_does_not_fill_the_journal(net: Net, message: m.Message, worker: int) -> None:
    kept = len(net.journal)
    for _ in range(100):
        net.pass_time(1.0)
        net.say(worker, message)
    assert len(net.journal) == kept


def test_a_workers_new_address_passes_the_limit(net: Net, worker: int) -> None:
    net.say(worker, m.Online(url="http://elsewhere:2"))
    assert net.state.gpus["studio"].url == "http://elsewhere:2"
    net.restart()
    assert net.state.gpus["studio"].url == "http://elsewhere:2"
