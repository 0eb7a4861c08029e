"""A worker of the field: its result comes at once and means "accepted", and nothing comes at the end."""

from typing import Any

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m

OURS = ("done", "power_state")
ACCEPTED = {"task_id": "j1", "queue": {"processing": 1, "queued": 0}}


def held(net: Net, monitor: int) -> int:
    """How many jobs hold the GPU or wait, as the monitor learns it before it stops the machine."""
    return net.use(monitor, gpu="studio", drain=True).active_count


@pytest.mark.parametrize("features", [(), OURS])
def test_an_early_result_is_relayed_and_ends_nothing(net: Net, features: tuple[str, ...]) -> None:
    worker, monitor, client = net.worker(features=()), net.monitor(), net.join("client", features=features)
    net.submit(client)
    net.pass_time(0.04)
    net.say(worker, m.Result(request_id="j1", task_type="heygem_submit", error=False, result=ACCEPTED))
    assert [told.result for told in net.heard(client, m.Result)] == [ACCEPTED]
    net.pass_time(100.0)
    assert held(net, monitor) == 1


def test_that_files_are_missing_does_not_end_the_job_of_a_client_that_is_about_to_upload_them(net: Net) -> None:
    worker, monitor, client = net.worker(features=()), net.monitor(), net.join("client", features=OURS)
    net.submit(client)
    net.say(worker, m.Result(request_id="j1", task_type="heygem_submit", error=True, error_msg="no such file"))
    net.pass_time(100.0)
    assert held(net, monitor) == 1
    net.say(client, m.JobDone(request_id="j1"))
    assert held(net, monitor) == 0


@pytest.mark.parametrize(
    ("after", "result"), [(0.0, {"error": True, "error_msg": "no such file"}), (60.0, {"result": {"task_id": "t"}})]
)
def test_an_error_and_a_result_after_the_time_that_a_render_takes_end_the_job_of_an_old_client(
    net: Net, after: float, result: dict[str, Any]
) -> None:
    worker, client = net.worker(features=()), net.join("client")
    net.submit(client)
    net.pass_time(after)
    net.say(worker, m.Result(request_id="j1", task_type="heygem_submit", **result))
    assert not net.state.jobs


def test_a_restarted_worker_that_accepts_a_job_again_ends_nothing(net: Net) -> None:
    worker, client = net.worker(features=()), net.join("client")
    net.submit(client)
    net.pass_time(60.0)
    net.leave(worker)
    net.pass_time(60.0)
    worker = net.worker(features=())
    assert net.heard(worker, m.DispatchBatch)
    net.say(worker, m.Result(request_id="j1", task_type="heygem_submit", result=ACCEPTED))
    assert net.state.jobs["j1"].gpu == "studio"


def test_other_task_types_end_with_the_workers_message(net: Net) -> None:
    worker, client = net.worker(features=()), net.join("client")
    net.say(client, m.Submit(request_id="j1", task_type="delete_asset", payload={"id": "7"}))
    net.say(worker, m.Result(request_id="j1", task_type="delete_asset", result={"id": "7"}))
    assert not net.state.jobs


def asks(net: Net, monitor: int, *, idle: bool | None) -> int:
    return net.use(monitor, gpu="studio", idle=idle).active_count


def test_an_old_clients_job_ends_when_the_monitor_sees_no_task(net: Net) -> None:
    worker, monitor, client = net.worker(features=()), net.monitor(), net.join("client")
    net.submit(client)
    net.say(worker, m.Result(request_id="j1", task_type="heygem_submit", result=ACCEPTED))
    assert asks(net, monitor, idle=True) == 1
    net.pass_time(100.0)
    assert asks(net, monitor, idle=None) == 1
    assert asks(net, monitor, idle=True) == 0
    assert not net.state.jobs


@pytest.mark.parametrize("theirs", ["client", "worker"])
def test_an_idle_worker_does_not_end_a_job_whose_end_will_be_sent(net: Net, theirs: str) -> None:
    net.worker(features=() if theirs == "worker" else ("range",))
    monitor, client = net.monitor(), net.join("client", features=() if theirs == "client" else OURS)
    net.submit(client)
    net.pass_time(100.0)
    assert asks(net, monitor, idle=True) == 1


def test_a_lease_of_an_old_client_at_an_inactive_old_worker_expires(net: Net) -> None:
    worker, monitor, client = net.worker(features=()), net.monitor(), net.join("client")
    net.submit(client)
    net.say(worker, m.Result(request_id="j1", task_type="heygem_submit", result=ACCEPTED))
    net.pass_time(net.limits.granted_ttl + 1)
    assert held(net, monitor) == 0
