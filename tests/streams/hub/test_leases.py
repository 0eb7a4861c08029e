"""How long a job may hold its GPU, and what becomes of a cancel that its worker could not hear."""

from collections.abc import Callable

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub.placement import BACK_WITHIN
from wakestream.streams.protocol import messages as m

OURS = ("done", "power_state")
HOUR = 3600.0


def holding(net: Net) -> bool:
    return "j1" in net.state.jobs and net.state.jobs["j1"].gpu is not None


def granted(net: Net) -> tuple[int, int]:
    """A worker with a job, and its client."""
    worker, client = net.worker(), net.join("client", features=OURS)
    assert isinstance(net.submit(client), m.Ack)
    return worker, client


def test_a_hub_with_a_restored_database_stops_no_gpu_whose_worker_may_render_a_job_that_it_does_not_know(
    net: Net,
) -> None:
    net.worker()
    net.restart()  # the job came after the backup
    monitor = net.monitor()
    assert net.in_use(monitor), "its idle time is over, but the worker is not back yet"
    net.pass_time(BACK_WITHIN - 1)
    worker = net.worker()
    net.say(worker, m.TaskActive(task_id="t"))
    assert net.in_use(monitor)
    net.pass_time(net.limits.recent + 1)
    assert not net.in_use(monitor)
    net.restart()
    monitor = net.monitor()
    net.pass_time(BACK_WITHIN)
    assert not net.in_use(monitor), "it does not come back"


# Renewal, expiry


def test_a_job_that_expires_is_not_granted_in_the_same_tick(net: Net) -> None:
    worker, monitor, client = net.worker(), net.monitor(), net.join("client", features=OURS)
    net.say(monitor, m.TaskQuery(request_id="q", gpu="studio", drain=True))
    assert isinstance(net.submit(client), m.Offline)
    net.leave(client)
    net.sent.clear()
    net.pass_time(net.limits.queued_ttl + 1)  # the stop that never began is called off in this tick, too
    assert net.state.gpus["studio"].phase == "online"
    assert (net.state.jobs, net.heard(worker, m.DispatchBatch)) == ({}, [])


def test_a_lease_without_a_client_lasts_while_its_gpu_works(net: Net) -> None:
    worker, client = granted(net)
    net.leave(client)
    for _ in range(8):
        net.pass_time(HOUR / 2)
        net.say(worker, m.TaskActive(task_id="t"))
    net.pass_time(1.0)
    assert holding(net)
    net.pass_time(HOUR)
    assert not net.state.jobs
    assert net.heard(worker, m.Cancel) == [m.Cancel(request_id="j1")]


def test_a_job_of_an_absent_client_expires_in_time_also_after_its_license_ordered_its_jobs(net: Net) -> None:
    away, here = (net.join("client", owner="ann", features=(*OURS, "queue")) for _ in range(2))
    for fd, id_ in ((away, "old"), (here, "new")):
        net.submit(fd, id_)
    net.leave(away)
    net.pass_time(0.5 * net.limits.queued_ttl)
    other = net.join("client", owner="ann", features=(*OURS, "queue"))
    net.leave(here)
    net.say(other, m.JobOrder(jobs=("new", "old")))
    net.pass_time(0.5 * net.limits.queued_ttl + 1)
    assert list(net.state.jobs) == ["new"]
    net.pass_time(0.5 * net.limits.queued_ttl)
    assert net.state.jobs == {}


def test_a_silent_client_with_an_inactive_gpu_loses_its_lease_with_a_notice(net: Net) -> None:
    worker, client = granted(net)
    net.pass_time(5.9 * HOUR)
    assert holding(net)
    net.pass_time(0.2 * HOUR)
    assert not net.state.jobs
    (told,) = net.heard(client, m.Error)
    assert (told.code, told.request_id) == ("expired", "j1")
    assert net.heard(worker, m.Cancel) == [m.Cancel(request_id="j1")]


def test_a_message_or_activity_keeps_a_clients_lease(net: Net) -> None:
    worker, client = granted(net)
    net.pass_time(4 * HOUR)
    net.submit(client)
    net.pass_time(4 * HOUR)
    net.say(worker, m.TaskActive(task_id="t"))
    net.pass_time(4 * HOUR)
    assert holding(net)


@pytest.mark.parametrize("features", [(), OURS])
def test_a_job_that_waits_is_never_given_up_while_its_client_is_there(net: Net, features: tuple[str, ...]) -> None:
    net.submit(net.join("client", features=features))
    net.pass_time(1000 * HOUR)
    assert "j1" in net.state.jobs


# Drain before stop


def test_a_held_gpu_is_not_drained_by_a_second_query(net: Net) -> None:
    net.worker()
    monitor, client = net.monitor(), net.join("client", features=OURS)
    net.submit(client)
    for _ in range(3):
        net.pass_time(HOUR)
        assert net.use(monitor, gpu="studio", drain=True).active_count == 1
        assert net.state.gpus["studio"].phase == "online"


# A worker that went away


def test_our_monitor_gets_a_lost_worker_at_once_and_old_ones_do_not(net: Net) -> None:
    worker, mine, other = net.worker(), net.monitor(), net.monitor("attic")
    old = net.join("monitor", gpus=("studio",))
    net.leave(worker)
    assert [(one.gpu, one.state) for one in net.heard(mine, m.PowerState)] == [("studio", "lost")]
    assert not net.heard(other, m.PowerState)
    assert not net.heard(old, m.PowerState)


def test_a_reconnected_monitor_gets_workers_lost_in_between(net: Net) -> None:
    net.leave(net.worker())
    assert [one.state for one in net.heard(net.monitor(), m.PowerState)] == ["lost"]


# Cancel


ENDS: dict[str, Callable[[Net, int], object]] = {
    "cancelled": lambda net, client: net.say(client, m.Cancel(request_id="j1")),
    "expired": lambda net, client: (net.leave(client), net.pass_time(601), net.pass_time(2200)),
    "revoked": lambda net, _: net.happen(f.Revoked("id-client")),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_cancel_for_an_absent_worker_is_sent_later(net: Net, end: str, *, restarted: bool) -> None:
    worker, client = granted(net)
    net.leave(worker)
    ENDS[end](net, client)
    assert not net.state.jobs
    if restarted:
        net.restart()
    back = net.worker()
    assert net.heard(back, m.Cancel) == [m.Cancel(request_id="j1")]
    assert not net.heard(back, m.DispatchBatch)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_cancel_of_a_requeued_job_reaches_its_lost_worker(net: Net, *, restarted: bool) -> None:
    worker, client = granted(net)
    net.leave(worker)
    net.submit(client)
    if restarted:
        net.restart()
        client = net.join("client", features=OURS)
    net.say(client, m.Cancel(request_id="j1"))
    assert not net.state.jobs
    assert net.heard(net.worker(), m.Cancel) == [m.Cancel(request_id="j1")]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_cancel_after_a_release_reaches_the_worker_that_may_have_the_job(net: Net, *, restarted: bool) -> None:
    worker, client = net.worker(), net.join("client", features=(*OURS, "released"))
    stranger = net.join("client", owner="id-stranger", features=OURS)
    net.submit(client)
    net.say(client, m.JobDone(request_id="j1"))
    if restarted:
        net.restart()
        worker, client = net.worker(), net.join("client", features=(*OURS, "released"))
        stranger = net.join("client", owner="id-stranger", features=OURS)
    net.say(stranger, m.Cancel(request_id="j1"))
    assert not net.heard(worker, m.Cancel)
    net.say(client, m.Cancel(request_id="j1"))
    assert net.heard(worker, m.Cancel) == [m.Cancel(request_id="j1")]
    assert net.heard(client, m.JobReleased)[-1] == m.JobReleased(request_id="j1")
    net.leave(worker)
    assert net.heard(net.worker(), m.Cancel) == [m.Cancel(request_id="j1")]
    net.say(client, m.Cancel(request_id="j1"))
    assert net.heard(client, m.Error)[-1].code == "unknown_job"


def test_a_resubmitted_job_is_not_stopped_by_an_earlier_cancel(net: Net) -> None:
    worker, client = granted(net)
    net.leave(worker)
    net.say(client, m.Cancel(request_id="j1"))
    net.submit(client)
    back = net.worker()
    assert not net.heard(back, m.Cancel)
    assert holding(net)


def test_a_worker_that_sent_the_end_gets_no_cancel(net: Net) -> None:
    worker, client = granted(net)
    net.leave(worker)
    net.say(client, m.Cancel(request_id="j1"))
    back = net.worker()
    net.say(back, m.Result(request_id="j1", result={"status": "cancelled"}))
    net.leave(back)
    assert not net.heard(net.worker(), m.Cancel)
    assert not net.state.pending_cancels


def test_pending_cancels_for_a_lost_worker_expire(net: Net) -> None:
    worker, client = granted(net)
    net.leave(worker)
    net.say(client, m.Cancel(request_id="j1"))
    net.pass_time(HOUR + 1)
    assert not net.state.pending_cancels


def test_a_job_cancelled_after_a_restart_is_removed_and_its_worker_gets_the_cancel(net: Net) -> None:
    net.worker()
    net.submit(net.join("client", features=OURS))
    net.restart()
    worker, client = net.worker(), net.join("client", features=OURS)
    net.say(client, m.Cancel(request_id="j1"))
    assert net.heard(worker, m.Cancel) == [m.Cancel(request_id="j1")]
    net.restart()
    assert not net.state.jobs


def test_a_late_submit_of_an_older_connection_does_not_bring_a_cancelled_job_back(net: Net) -> None:
    older = net.join("client", features=OURS)
    net.submit(older)
    newer = net.join("client", features=OURS)
    net.say(newer, m.Cancel(request_id="j1"))
    assert net.reply(m.Error, older).code == "cancelled"
    assert not net.state.jobs
    assert isinstance(net.submit(newer), m.Offline)


def test_a_late_sign_of_work_or_result_does_not_bring_a_cancelled_job_back(net: Net) -> None:
    worker, client = granted(net)
    net.say(client, m.Cancel(request_id="j1"))
    net.say(worker, m.TaskActive(task_id="t"))
    net.say(worker, m.Result(request_id="j1", result={"status": "done"}))
    assert not net.state.jobs
    assert not net.state.gpus["studio"].leases


@pytest.mark.parametrize("restarted", [False, True])
def test_after_a_loss_the_old_gpu_gets_a_cancel_on_reconnect(net: Net, *, restarted: bool) -> None:
    attic, client = net.worker("attic"), net.join("client", features=OURS)
    net.submit(client)
    net.leave(attic)
    assert isinstance(net.submit(client), m.Offline)
    if restarted:
        net.restart()
    studio = net.worker("studio")
    assert net.state.jobs["j1"].gpu == "studio"
    assert not net.heard(studio, m.Cancel)
    back = net.worker("attic")
    assert net.heard(back, m.Cancel) == [m.Cancel(request_id="j1")]
    assert net.state.jobs["j1"].gpu == "studio"


def test_a_job_that_returns_to_the_gpu_that_lost_it_is_made_there(net: Net) -> None:
    attic, client = net.worker("attic"), net.join("client", features=OURS)
    net.submit(client)
    for requeued in (True, False):
        net.leave(attic)
        if requeued:
            net.submit(client)
        attic = net.worker("attic")
        assert not net.heard(attic, m.Cancel)
        assert net.state.jobs["j1"].gpu == "attic"


# Numbers of connections start again with each run of the hub


@pytest.mark.parametrize("features", [(), ("hub_status",)])
def test_an_old_result_is_not_sent_to_a_reused_connection_number(net: Net, features: tuple[str, ...]) -> None:
    net.worker()
    client = net.join("client")
    net.submit(client)
    net.restart()
    worker = net.worker()
    assert net.join("client", features=features) == client  # another program of the same license
    again = net.join("client")
    net.say(worker, m.Result(request_id="j1", result={}, key="key-id-client", sender_fd=client))
    assert [told.request_id for told in net.heard(again, m.Result)] == ["j1"]
    assert not net.state.jobs


def test_a_result_of_an_ended_job_is_not_used_up_by_a_status_client(net: Net, worker: int) -> None:
    asker, client = net.join("client", features=("hub_status",)), net.join("client")
    net.say(worker, m.Result(request_id="j1", result={}, key="key-id-client", sender_fd=asker))
    assert [told.request_id for told in net.heard(client, m.Result)] == ["j1"]
    assert not net.heard(asker, m.Result)
