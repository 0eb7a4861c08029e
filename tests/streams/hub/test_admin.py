"""What people order for one GPU: turn it off now, or keep it on for a while."""

from typing import Any

import pytest

from tests.support.streams.days import BERLIN, day_number
from tests.support.streams.hub_net import Net
from wakestream.streams.hub.local_time import moment
from wakestream.streams.hub.state import ALL
from wakestream.streams.protocol import messages as m

NINE = moment(day_number("2026-03-13"), 9 * 60, BERLIN)


def asked(net: Net, fd: int, action: str, gpu: str = "studio", **more: Any) -> m.GpuAdminDone | m.Error:
    net.sent.pop(fd, None)
    net.say(fd, m.GpuAdmin(request_id="a", gpu=gpu, action=action, **more))
    [answer] = net.sent[fd]
    assert isinstance(answer, m.GpuAdminDone | m.Error)
    return answer


def code(answer: m.Message) -> str | None:
    return answer.code if isinstance(answer, m.Error) else None


def test_a_gpu_that_no_job_needs_is_turned_off_at_once_although_it_worked_just_now() -> None:
    net = Net()
    monitor, worker, client = net.monitor("studio", "release"), net.worker(), net.join("client")
    net.say(worker, m.TaskActive(task_id="t"))
    assert net.in_use(monitor)
    assert code(asked(net, client, "stop")) is None
    [release] = net.heard(monitor, m.Release)
    assert release.gpu == "studio"
    assert not net.in_use(monitor)
    net.phase(monitor, "off")
    assert code(asked(net, client, "stop")) is None, "it is off already"


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        ("mine", "jobs need studio: 1 (of other licenses: 0); wait for their end, or cancel them first"),
        ("theirs", "jobs need studio: 1 (of other licenses: 1); wait for their end, or cancel them first"),
    ],
)
def test_no_job_is_cut(owner: str, said: str) -> None:
    net = Net()
    monitor, _, mine = net.monitor("studio", "release"), net.worker(), net.join("client", owner="mine")
    client = net.join("client", owner=owner)
    net.submit(client)
    answer = asked(net, mine, "stop")
    assert isinstance(answer, m.Error)
    assert (answer.code, answer.text) == ("gpu_in_use", said)
    assert net.heard(monitor, m.Release) == []


def test_a_gpu_is_kept_on_for_an_hour_and_is_turned_off_on_demand_within_it() -> None:
    net = Net(1000.0)
    monitor, _, client = net.monitor("studio", "release"), net.worker(), net.join("client")
    net.pass_time(600)
    assert asked(net, client, "keep") == m.GpuAdminDone(request_id="a", gpu="studio", action="keep", until=5200)
    assert net.status(client).gpus[0]["warm_until"] == 5200
    net.pass_time(3599)
    assert net.in_use(monitor)
    asked(net, client, "keep", seconds=1800)
    net.pass_time(1000)
    assert net.in_use(monitor)
    asked(net, client, "stop")
    assert not net.in_use(monitor)


def test_a_gpu_that_was_turned_off_stays_off_for_the_rest_of_its_keep_warm_hours() -> None:
    net = Net(NINE, zone=BERLIN, keep_warm={ALL: ("Mon-Sun 09:00-18:00",)})
    monitor, _, client = net.monitor("studio", "release"), net.worker(), net.join("client")
    assert net.in_use(monitor)
    asked(net, client, "stop")
    assert not net.in_use(monitor)
    net.phase(monitor, "off")
    net.pass_time(3600)
    assert net.heard(monitor, m.Boot) == []
    net.pass_time(24 * 3600)
    assert [boot.gpu for boot in net.heard(monitor, m.Boot)] == ["studio"]


def test_an_admin_removes_a_gpu_that_is_gone_with_its_costs() -> None:
    net = Net(1000.0, price=1.0)
    monitor, worker = net.monitor("studio", "release"), net.worker()
    client, admin = net.join("client"), net.join("admin")
    assert code(asked(net, client, "remove")) == "forbidden"
    assert "worker of studio is connected" in str(asked(net, admin, "remove"))
    net.leave(worker)
    assert "monitor of studio is connected" in str(asked(net, admin, "remove"))
    net.leave(monitor)
    net.pass_time(3600)
    assert net.status(client).gpus[0]["uptime_s"] >= 3600, "it counts on"
    assert code(asked(net, admin, "remove")) is None
    assert net.status(client).gpus == ()
    assert code(asked(net, admin, "remove")) == "unknown_gpu"


def test_a_gpu_is_not_removed_while_a_job_has_it_and_only_by_force_while_jobs_wait_for_it() -> None:
    net = Net()
    worker, client, admin = net.worker(), net.join("client"), net.join("admin")
    net.submit(client)
    net.leave(worker)
    assert code(asked(net, admin, "remove")) == "gpu_in_use"
    net.say(client, m.Cancel(request_id="j1"))
    net.submit(client, "j2")
    refused = asked(net, admin, "remove")
    assert isinstance(refused, m.Error)
    assert (refused.code, refused.text) == (
        "gpu_wanted",
        "jobs wait for studio, and no other GPU can do them: 1; cancel them first, or give --yes",
    )
    assert code(asked(net, admin, "remove", force=True)) is None
    net.worker("other")
    assert net.state.jobs["j2"].gpu == "other", "it waited on"


def test_an_order_that_cannot_be_carried_out_is_refused_with_the_reason() -> None:
    net = Net(price=1.0, budgets={ALL: (2.0, None)})
    monitor, client = net.monitor("studio"), net.join("client")
    assert code(asked(net, client, "stop", "nowhere")) == "unknown_gpu"
    net.phase(monitor, "off")
    assert code(asked(net, client, "burn")) == "bad_request"
    assert code(asked(net, client, "keep")) == "gpu_off"
    net.phase(monitor, "starting")
    assert code(asked(net, client, "stop")) == "gpu_in_use"
    net.worker()
    assert code(asked(net, client, "keep", seconds=10**6)) == "bad_request"
    assert code(asked(net, client, "stop")) == "no_monitor", "this monitor does not know how to end an idle time"
    net.pass_time(2 * 3600)
    net.pass_time(1)
    assert code(asked(net, client, "keep")) == "budget"


def test_only_clients_that_announce_it_are_offered_it_and_no_other_role_may_order() -> None:
    net = Net()
    client, old, worker = net.join("client", features=(m.GpuAdmin.FEATURE,)), net.join("client"), net.worker()
    assert [m.GpuAdmin.FEATURE in net.heard(fd, m.Registered)[0].features for fd in (client, old)] == [True, False]
    assert code(asked(net, worker, "stop")) == "forbidden"
