"""How deployed clients get the GPU's state: as the deployed hub sends it, and never better than it is."""

from typing import Any

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire


def told(net: Net, fd: int) -> list[dict[str, Any]]:
    kind = m.StatusResponse.TYPE
    return [frame for message in net.sent.get(fd, ()) if (frame := wire.to_frame(message))["type"] == kind]


def test_a_status_reply_goes_to_all_old_clients_of_that_license(net: Net) -> None:
    monitor, old, phone = net.monitor(), net.join("client", owner="a"), net.join("client", owner="a")
    stranger = net.join("client", owner="b")
    net.say(old, m.StatusQuery(request_id="q"))
    net.say(monitor, m.StatusResponse(request_id="q", status="stopped", fresh=True))
    frame = {"type": "gpu.status.response", "request_id": "q", "status": "stopped", "State": "", "fresh": True}
    assert [told(net, fd) for fd in (old, phone, stranger)] == [[frame], [frame], []]


def test_a_client_with_features_gets_the_monitors_message_for_its_own_query(net: Net) -> None:
    monitor, ours, old = net.monitor(), net.join("client", owner="a", features=("done",)), net.join("client", owner="a")
    net.say(old, m.StatusQuery(request_id="q"))
    net.say(monitor, m.StatusResponse(request_id="q", status="stopped"))
    assert told(net, ours) == []
    net.say(ours, m.StatusQuery(request_id="q2"))
    net.say(monitor, m.StatusResponse(request_id="q2", status="stopped"))
    assert told(net, ours)[0]["source"] == "gpu_monitor"
    assert told(net, old)[0]["fresh"] is False


@pytest.mark.parametrize("status", ["running", "RUNNING", "online"])
def test_running_means_that_the_worker_is_there(net: Net, status: str) -> None:
    monitor, old = net.monitor(), net.join("client", owner="a")
    words = []
    for id_ in ("q1", "q2"):
        net.say(old, m.StatusQuery(request_id=id_))
        net.say(monitor, m.StatusResponse(request_id=id_, status=status))
        words.append(told(net, old)[-1]["status"])
        net.worker()
    assert words == ["starting", "running"]


def test_replies_of_the_hub_have_the_same_format(net: Net) -> None:
    monitor, old = net.monitor(), net.join("client", owner="a")
    net.phase(monitor, "booted")
    net.say(old, m.StatusQuery(request_id="q"))
    net.pass_time(4)  # a deployed client leaves after 5 s of silence
    assert [(each["status"], each["State"]) for each in told(net, old)] == [("starting", "")]
