"""The hub's decisions, driven by sequences of events in memory."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.streams import hub_net
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire


class Net(hub_net.Net):
    """`take` gives each message once; `old` are the messages to a connection in the old spelling."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(now=1000.0, **limits)

    def old(self, fd: int) -> list[m.Message]:
        sent = (c for c in self.commands if isinstance(c, f.Send | f.Broadcast) and c.old)
        return [c.message for c in sent if fd in ((c.fd,) if isinstance(c, f.Send) else c.to)]

    def open(self) -> int:
        self.fd += 1
        self.happen(f.Opened(self.fd))
        return self.fd

    def register(self, fd: int, role: str, *, key: str | None = None, **more: Any) -> None:
        key = key or f"key-{role}"
        known = f.License(f"id-{key.partition(':')[0]}", role)
        message = m.Register(key=key if role == "client" else None, role=hub_net.ROLES[role], **more)
        self.happen(f.Registering(fd, message, key, known))

    def join(self, role: str, **more: Any) -> int:
        fd = self.open()
        self.register(fd, role, **more)
        self.take(fd)
        return fd

    def worker(self, gpu: str | None = "gpu", key: str | None = None) -> int:
        fd = self.join("worker", gpu=gpu, url="http://w:1", key=key, features=("range",))
        self.say(fd, m.Online())
        return fd

    def say(self, fd: int, message: m.Message, *, old: bool = False) -> None:
        self.happen(f.Received(fd, message, old))

    def submit(self, fd: int, id_: str = "j1", payload: Mapping[str, Any] | None = None) -> m.Message:
        self.take(fd)
        self.say(fd, m.Submit(request_id=id_, payload=payload or {}))
        return self.take(fd)[0]

    def take(self, fd: int) -> list[m.Message]:
        return self.sent.pop(fd, [])

    def code(self, fd: int) -> str | None:
        last = self.take(fd)[-1]
        assert isinstance(last, m.Error), last
        return last.code


@pytest.fixture
def net() -> Net:
    return Net()


# Registering


def test_a_new_connection_gets_its_number_first(net: Net) -> None:
    fd = net.open()
    assert net.take(fd) == [m.Connected(fd=fd)]


@pytest.mark.parametrize(
    ("role", "answer"),
    [("client", m.Registered(key="k", device_type="pc")), ("monitor", m.Registered(role="gpu_monitor"))],
)
def test_a_client_is_registered_with_its_key_and_a_pc_by_default_and_a_monitor_with_its_role_only(
    net: Net, role: str, answer: m.Registered
) -> None:
    fd = net.open()
    net.take(fd)
    net.register(fd, role, key="k")
    assert net.take(fd) == [replace(answer, features=hub.FEATURES)]


@pytest.mark.parametrize(
    ("message", "credential", "holds", "code", "close"),
    [
        (m.Register(key="sesame"), "sesame", None, "unauthorized", hub.UNAUTHORIZED),
        (m.Register(), None, None, "unauthorized", hub.UNAUTHORIZED),
        (m.Register(role="worker"), None, None, "unauthorized", hub.UNAUTHORIZED),
        (m.Register(key="sesame"), "sesame", f.License("i", "client", revoked=True), "unauthorized", hub.UNAUTHORIZED),
        (m.Register(role="worker", gpu="x" * 101), "sesame", f.License("i", "worker"), "bad_request", hub.FORBIDDEN),
        (m.Register(role="worker", gpu="x\x1b[m"), "sesame", f.License("i", "worker"), "bad_request", hub.FORBIDDEN),
        (m.Register(role="worker", gpu=""), "sesame", f.License("i", "worker"), "bad_request", hub.FORBIDDEN),
        (
            m.Register(role="monitor", gpus=("\u202e",)),
            "sesame",
            f.License("i", "monitor"),
            "bad_request",
            hub.FORBIDDEN,
        ),
    ],
)
def test_a_register_without_permission_is_refused_and_closed(
    net: Net, message: m.Register, credential: str | None, holds: f.License | None, code: str, close: int
) -> None:
    fd = net.open()
    net.happen(f.Registering(fd, message, credential, holds))
    assert "sesame" not in repr(net.commands)
    assert net.code(fd) == code
    assert net.closed == {fd: close}
    net.say(fd, m.Submit(request_id="late"))
    assert net.take(fd) == []


def test_old_workers_without_a_token_come_in_only_where_their_role_is_open() -> None:
    net = Net(open_roles=frozenset({"worker"}))
    worker, monitor, wrong = net.open(), net.open(), net.open()
    net.happen(f.Registering(worker, m.Register(role="worker")))
    net.happen(f.Registering(monitor, m.Register(role="gpu_monitor")))
    net.happen(f.Registering(wrong, m.Register(role="worker", token="wrong"), "wrong", None))
    assert isinstance(net.take(worker)[-1], m.Registered)
    assert [net.code(fd) for fd in (monitor, wrong)] == ["unauthorized", "unauthorized"]


def test_before_registering_only_a_ping_is_answered(net: Net) -> None:
    fd = net.open()
    net.take(fd)
    net.say(fd, m.Ping())
    assert net.take(fd) == [m.Pong()]
    for message in (m.Submit(request_id="a"), m.Online(), m.Unknown(type="x")):
        net.say(fd, message)
        assert net.code(fd) == "not_registered"


def test_a_late_register_is_reported_once_and_closed(net: Net) -> None:
    fd = net.open()
    net.pass_time(10)
    assert net.closed == {}
    net.pass_time(1)
    assert net.code(fd) == "register_timeout"
    net.pass_time(1)
    assert net.take(fd) == []
    assert net.closed == {fd: hub.NOT_REGISTERED}


def test_an_unknown_type_is_answered_with_its_name_and_id(net: Net) -> None:
    fd = net.join("client")
    net.say(fd, m.Unknown(type="gpu.job.dance", frame={"request_id": "r"}))
    error = net.take(fd)[0]
    assert isinstance(error, m.Error)
    assert (error.code, error.request_id) == ("unknown_type", "r")
    assert "gpu.job.dance" in error.text
    assert error.msg == error.message


def test_too_many_malformed_frames_end_a_connection() -> None:
    net = Net(malformed=3)
    fd = net.join("client")
    for _ in range(2):
        net.happen(f.Unreadable(fd, "no"))
    assert net.closed == {}
    net.happen(f.Unreadable(fd, "no"))
    assert net.closed == {fd: 1008}
    assert [error.code for error in net.take(fd) if isinstance(error, m.Error)] == ["malformed"] * 3


# Submit


def test_with_a_gpu_online_a_job_is_granted_and_goes_to_its_worker_and_the_monitors(net: Net) -> None:
    monitor, worker, client = net.join("monitor"), net.worker(), net.join("client", key="k")
    payload = {"video_hash": "v"}
    ack = net.reply(m.Ack, client, "j1", payload)
    assert (ack.request_id, ack.gpu, ack.url, ack.position) == ("j1", "gpu", "http://w:1", 1)
    assert net.take(worker) == [m.Submit(request_id="j1", payload=payload, key="k", sender_fd=client)]
    assert net.take(monitor) == [m.Submit(request_id="j1", payload=payload)]
    net.say(client, m.Submit(request_id="a", key="forged", sender_fd=99))
    assert net.take(worker) == [m.Submit(request_id="a", key="k", sender_fd=client)]
    assert net.take(monitor) == [m.Submit(request_id="a")]


def test_without_a_gpu_a_job_is_queued_and_the_monitor_is_woken(net: Net) -> None:
    monitor, client = net.join("monitor"), net.join("client")
    first, second = net.reply(m.Offline, client, "a"), net.reply(m.Offline, client, "b")
    assert (first.phase, first.position, first.status, first.ts, first.trace_id) == ("booting", 1, "offline", 1000, "a")
    assert first.eta_s is None
    assert second.position == 2
    assert [message.request_id for message in net.take(monitor) if isinstance(message, m.Submit)] == ["a", "b"]


@pytest.mark.parametrize(
    ("states", "phase"),
    [
        ((), "booting"),
        (("starting",), "booting"),
        (("off",), "booting"),
        (("booted",), "booted"),
        (("draining",), "stopping"),
        (("stopping",), "stopping"),
        (("no_capacity",), "no_capacity"),
        (("failed",), "booting"),
    ],
)
def test_the_offline_reply_has_the_gpus_state(net: Net, states: tuple[str, ...], phase: str) -> None:
    client = net.join("client")
    assert net.reply(m.Offline, client).phase == "no_monitor"
    monitor = net.join("monitor", gpus=("gpu",))
    for state in states:
        net.say(monitor, m.PowerState(gpu="gpu", state=state))
    assert net.reply(m.Offline, client).phase == phase


def test_old_field_names_are_answered_in_old_field_names(net: Net) -> None:
    old, new = net.join("client"), net.join("client")
    net.say(old, m.Submit(request_id="a"), old=True)
    net.say(new, m.Submit(request_id="b"))
    assert [type(message) for message in net.old(old)] == [m.Offline]
    assert net.old(new) == []


def test_the_same_id_again_gets_the_same_answer_and_no_second_job(net: Net, client: int) -> None:
    first = net.submit(client, "a")
    net.submit(client, "b")
    assert net.submit(client, "a") == first
    assert list(net.state.queue) == ["a", "b"]
    worker = net.worker()
    net.take(worker)
    assert net.submit(client, "a") == net.reply(m.Ack, client, "a")
    assert net.take(worker) == []


def test_the_same_id_from_another_license_is_a_conflict_without_effect(net: Net) -> None:
    mine, other = net.join("client", key="a"), net.join("client", key="b")
    net.submit(mine, "j")
    net.say(other, m.Submit(request_id="j"))
    assert net.code(other) == "conflict"
    net.say(other, m.Cancel(request_id="j"))
    assert net.code(other) == "unknown_job"
    net.say(other, m.JobDone(request_id="j"))
    assert list(net.state.queue) == ["j"]


def test_a_full_queue_is_an_answer(net: Net) -> None:
    net = Net(jobs_per_key=2)
    client, other = net.join("client", key="a"), net.join("client", key="b")
    net.submit(client, "1")
    net.submit(client, "2")
    net.say(client, m.Submit(request_id="3"))
    error = net.take(client)[-1]
    assert isinstance(error, m.Error)
    assert (error.code, error.request_id) == ("queue_full", "3")
    assert isinstance(net.submit(client, "1"), m.Offline)
    assert isinstance(net.submit(other, "4"), m.Offline)


def test_a_submit_that_would_not_fit_a_workers_frame_is_refused(net: Net, client: int) -> None:
    net.say(client, m.Submit(request_id="a", payload={"x": "y" * 60_000}))
    assert net.code(client) == "too_large"
    assert net.limits.batch < wire.MAX_FRAME


def test_of_several_gpus_the_one_with_the_fewest_leases_is_chosen(net: Net) -> None:
    one, two = net.worker("one"), net.worker("two")
    client = net.join("client")
    gpus = [net.submit(client, id_) for id_ in ("a", "b", "c", "d")]
    assert [ack.gpu for ack in gpus if isinstance(ack, m.Ack)] == ["one", "two", "one", "two"]
    for worker in (one, two):
        assert len([x for x in net.take(worker) if isinstance(x, m.Submit)]) == 2


# Online


def test_when_a_gpu_comes_online_all_clients_get_it_and_each_job_is_granted(net: Net) -> None:
    monitor = net.join("monitor", gpus=("gpu",))
    clients = [net.join("client", key=f"k{n}") for n in range(3)]
    idle = net.join("client", key="idle")
    for number, fd in enumerate(clients):
        net.submit(fd, f"j{number}")
    net.take(monitor)
    worker = net.worker()
    for number, fd in enumerate(clients):
        online, ack = net.take(fd)
        assert isinstance(online, m.Online)
        assert isinstance(ack, m.Ack)
        assert (online.gpu, online.url, online.status) == ("gpu", "http://w:1", "online")
        assert (ack.request_id, ack.position) == (f"j{number}", number + 1)
        assert net.old(fd) == [online]
    assert [type(message) for message in net.take(idle)] == [m.Online]
    assert [type(message) for message in net.take(monitor)] == [m.Online]
    (batch,) = net.take(worker)
    assert isinstance(batch, m.DispatchBatch)
    assert batch.batch_id
    assert [job["request_id"] for job in batch.jobs] == ["j0", "j1", "j2"]
    assert batch.jobs[0] == {
        "type": "gpu.job.submit",
        "request_id": "j0",
        "task_type": "heygem_submit",
        "payload": {},
    } | {
        "key": "k0",
        "sender_fd": clients[0],
    }


@pytest.mark.parametrize("submits_again", [True, False])
def test_a_granted_job_whose_worker_was_lost_is_granted_when_that_returns(net: Net, submits_again: bool) -> None:
    client, worker = net.join("client"), net.worker()
    net.submit(client)
    net.happen(f.Closed(worker))
    net.take(client)
    if submits_again:
        assert net.reply(m.Offline, client).position == 1
    back = net.worker()
    assert [type(message) for message in net.take(client)] == [m.Online, m.Ack]
    assert [type(message) for message in net.take(back)] == [m.DispatchBatch]


def test_a_repeated_online_is_broadcast_again_and_grants_once(net: Net, client: int) -> None:
    net.submit(client)
    worker = net.worker()
    net.take(client)
    net.take(worker)
    net.say(worker, m.Online())
    assert [type(message) for message in net.take(client)] == [m.Online]
    assert net.take(worker) == []


def test_a_worker_that_connects_again_replaces_its_half_dead_self(net: Net) -> None:
    before, after = net.worker(), net.worker()
    assert net.closed == {before: hub.REPLACED}
    net.happen(f.Closed(before))
    assert (net.state.gpus["gpu"].worker, net.state.gpus["gpu"].phase) == (after, "online")


# Results, cancel, done


def test_a_result_goes_to_its_connection_under_both_names_without_secrets(net: Net) -> None:
    worker, client, other = net.worker(), net.join("client", key="k"), net.join("client", key="k")
    net.submit(client)
    net.take(other)
    net.say(worker, m.Result(request_id="j1", result={"url": "x"}, key="k", sender_fd=client))
    expected = m.Result(request_id="j1", result={"url": "x"})
    assert net.take(client) == [expected]
    assert net.old(client)[-1] == expected
    assert net.take(other) == []
    assert net.state.jobs == {}


def test_a_result_without_its_connection_goes_to_all_of_its_key(net: Net) -> None:
    worker, gone = net.worker(), net.join("client", key="k")
    others = [net.join("client", key="k") for _ in range(2)]
    stranger = net.join("client", key="x")
    net.submit(gone)
    net.happen(f.Closed(gone))
    net.say(worker, m.Result(request_id="j1", key="k", sender_fd=gone))
    assert [net.take(fd) for fd in others] == [[m.Result(request_id="j1")]] * 2
    assert net.take(stranger) == []


def test_a_result_for_a_connection_of_another_key_is_not_sent_there(net: Net) -> None:
    worker, client, stranger = net.worker(), net.join("client", key="k"), net.join("client", key="x")
    net.say(worker, m.Result(request_id="unheard", key="k", sender_fd=stranger))
    assert net.take(stranger) == []
    assert net.take(client) == [m.Result(request_id="unheard")]


@pytest.mark.parametrize("feature", ["hub_status", "done"])
def test_a_result_is_not_lost_on_a_program_that_passes_over_it(net: Net, feature: str) -> None:
    worker, client = net.worker(), net.join("client", key="k")
    net.submit(client)
    net.happen(f.Closed(client))
    page = net.join("client", key="k", features=(feature,))
    net.say(worker, m.Result(request_id="j1"))
    asking = net.join("client", key="k", features=(feature,))
    back = net.join("client", key="k")
    again = net.join("client", key="k")
    assert [net.old(fd) for fd in (page, asking, back, again)] == [[], [], [m.Result(request_id="j1")], []]


# Expiry and revocation


def test_a_queued_job_expires_35_minutes_after_its_connection_with_a_notice(net: Net) -> None:
    client, other = net.join("client", key="k"), net.join("client", key="k")
    net.submit(client)
    net.happen(f.Closed(client))
    net.pass_time(35 * 60)
    assert list(net.state.jobs) == ["j1"]
    net.pass_time(1)
    assert net.state.jobs == {}
    assert net.code(other) == "expired"


def test_a_revoked_license_is_kicked_from_all_its_connections_and_its_jobs_released(net: Net) -> None:
    worker, client, other = net.worker(), net.join("client", key="k"), net.join("client", key="x")
    second, monitor = net.join("client", key="k"), net.join("monitor", key="k")
    net.submit(client)
    for fd in (worker, other, second, monitor):
        net.take(fd)
    net.happen(f.Revoked("id-k"))
    for fd in (client, second, monitor):
        assert [type(message) for message in net.take(fd)] == [m.Kicked]
    assert net.closed == dict.fromkeys((client, second, monitor), hub.FORBIDDEN)
    assert net.take(worker) == [m.Cancel(request_id="j1")]
    net.say(client, m.Submit(request_id="more"))
    assert net.take(client) == []
    assert (net.state.jobs, "id-k" in net.state.keys) == ({}, False)


def test_a_revoked_worker_takes_its_gpu_with_it(net: Net) -> None:
    net.worker(key="w")
    net.happen(f.Revoked("id-w"))
    assert isinstance(net.submit(net.join("client")), m.Offline)


# Monitors and power


def test_a_monitor_that_registers_while_jobs_wait_gets_a_boot(net: Net) -> None:
    net.submit(net.join("client"), "a")
    monitor = net.open()
    net.register(monitor, "monitor")
    boot = net.take(monitor)[-1]
    assert isinstance(boot, m.Boot)
    assert (boot.request_id, boot.source) == ("a", "hub")


def test_booted_goes_to_all_clients_and_is_not_online(net: Net) -> None:
    monitor, client = net.join("monitor", gpus=("gpu",)), net.join("client")
    net.say(monitor, m.Booted(msg="up"))
    assert net.take(client) == [m.Booted(msg="up")]
    assert net.reply(m.Offline, client).phase == "booted"


def test_a_failed_boot_ends_every_waiting_job_whose_client_is_there_and_is_told_under_its_own_id(net: Net) -> None:
    monitor = net.join("monitor", gpus=("gpu",))
    clients = [net.join("client", key=f"k{n}") for n in range(4)]
    for number, fd in enumerate(clients):
        net.submit(fd, f"j{number}")
    net.happen(f.Closed(clients.pop()))
    net.say(monitor, m.BootResult(request_id="j3", success=False, status="failed", msg="no stock"))
    for number, fd in enumerate(clients):
        (told,) = net.take(fd)
        assert isinstance(told, m.BootResult)
        assert (told.request_id, told.success, told.msg) == (f"j{number}", False, "no stock")
    assert list(net.state.jobs) == list(net.state.queue) == ["j3"], "its client is absent"


def test_a_failed_boot_is_not_reported_while_another_gpu_boots(net: Net) -> None:
    one, two = net.join("monitor", gpus=("one",)), net.join("monitor", gpus=("two",))
    client = net.join("client")
    net.submit(client)
    net.say(two, m.PowerState(gpu="two", state="starting"))
    net.say(one, m.BootResult(request_id="j1", success=False, gpu="one"))
    assert net.take(client) == []
    net.say(two, m.BootResult(request_id="j1", success=False, gpu="two"))
    assert [type(message) for message in net.take(client)] == [m.BootResult]


def test_an_answer_from_memory_and_the_fresh_one_after_it_are_both_passed_on_to_the_asker_only(net: Net) -> None:
    monitor = net.join("monitor")
    client, other = net.join("client", features=("done",)), net.join("client", features=("done",))
    net.say(client, m.StatusQuery(request_id="q"))
    assert net.take(monitor) == [m.StatusQuery(request_id="q")]
    answers = [m.StatusResponse(request_id="q", status="unknown"), m.StatusResponse(request_id="q", status="stopped")]
    net.say(monitor, answers[0])
    net.pass_time(12.0)  # a slow look; the hub has no answer of its own to give
    answers[1] = m.StatusResponse(request_id="q", status="stopped", fresh=True)
    net.say(monitor, answers[1])
    net.say(monitor, answers[1])
    assert net.take(client) == answers
    assert net.take(other) == []
    assert net.state.asked == {}


def test_a_missing_second_answer_is_not_awaited_for_long(net: Net) -> None:
    monitor, client = net.join("monitor"), net.join("client", features=("done",))
    for number in range(net.state.limits.open_queries):
        net.say(client, m.StatusQuery(request_id=f"q{number}"))
        net.say(monitor, m.StatusResponse(request_id=f"q{number}", status="stopped"))
    net.say(client, m.StatusQuery(request_id="one-more"))
    assert net.take(monitor)[-1] == m.StatusQuery(request_id="one-more")
    net.pass_time(61.0)
    net.pass_time(1.0)
    assert net.state.asked == {}


def test_without_a_monitor_or_when_it_is_silent_the_hub_answers_a_status_query(net: Net) -> None:
    client = net.join("client", features=("done",))
    net.say(client, m.StatusQuery(request_id="q"))
    assert net.take(client) == [m.StatusResponse(request_id="q", status="unknown", source="hub")]
    net.join("monitor")
    net.worker()
    net.take(client)
    net.say(client, m.StatusQuery(request_id="q2"))
    net.pass_time(11)
    assert net.take(client) == [m.StatusResponse(request_id="q2", status="running", source="hub")]
    net.pass_time(11)
    assert net.take(client) == []


def test_one_connection_cannot_leave_too_many_questions_open() -> None:
    net = Net(open_queries=2)
    net.join("monitor")
    client, other = net.join("client"), net.join("client")
    for id_ in ("a", "b", "c"):
        net.say(client, m.StatusQuery(request_id=id_))
    assert net.code(client) == "queue_full"
    net.say(other, m.StatusQuery(request_id="d"))
    assert net.take(other) == []


def ask(net: Net, monitor: int) -> tuple[int, bool]:
    answer = net.use(monitor, gpu="gpu")
    return answer.active_count, answer.has_recent_active


def test_a_task_query_counts_leases_queued_jobs_and_recent_activity(net: Net) -> None:
    monitor, client = net.join("monitor", gpus=("gpu",)), net.join("client")
    assert ask(net, monitor) == (0, False)
    net.submit(client, "a")
    assert ask(net, monitor) == (1, False)
    worker = net.worker()
    net.submit(client, "b")
    assert ask(net, monitor) == (2, True)
    net.now += 61
    assert ask(net, monitor) == (2, False)
    net.say(worker, m.TaskActive(task_id="t"))
    assert ask(net, monitor) == (2, True)
    net.say(client, m.JobDone(request_id="a"))
    net.say(client, m.JobDone(request_id="b"))
    assert ask(net, monitor) == (0, False)


@pytest.mark.parametrize("late", ["unknown", "starting", "booted", "no_capacity", "failed", ""])
@pytest.mark.parametrize("stops", ["", "draining", "stopping", "off"])
def test_a_monitor_is_believed_when_it_stops_its_gpu_and_a_late_report_takes_none_offline(
    net: Net, late: str, stops: str
) -> None:
    monitor = net.join("monitor", gpus=("gpu",))
    net.worker()
    for state in filter(None, (late, stops)):
        net.say(monitor, m.PowerState(gpu="gpu", state=state))
    assert isinstance(net.submit(net.join("client")), m.Offline if stops else m.Ack)


# Journal


def test_the_journal_holds_no_key_and_leads_back_to_the_same_jobs(net: Net) -> None:
    client = net.join("client", key="k:topsecret")
    worker = net.worker()
    net.submit(client, "a")
    net.say(worker, m.Result(request_id="gone", key="k:topsecret", result={}))
    net.happen(f.Closed(worker))
    net.submit(client, "b")
    net.submit(client, "a")
    assert "topsecret" not in repr(net.facts)
    net.restart()
    assert b"topsecret" not in b"".join(net.rows)
    assert {id_: job.gpu for id_, job in net.state.jobs.items()} == {"a": None, "b": None}
    assert sorted(net.state.queue) == ["a", "b"]
    assert all(job.fd is None for job in net.state.jobs.values())


def test_a_machine_that_went_off_by_itself_while_jobs_wait_is_booted_again(net: Net) -> None:
    client, monitor = net.join("client"), net.join("monitor", gpus=("gpu",))
    net.submit(client)
    net.take(monitor)
    net.say(monitor, m.PowerState(gpu="gpu", state="off"))
    assert [message.request_id for message in net.take(monitor) if isinstance(message, m.Boot)] == ["j1"]
    net.say(monitor, m.PowerState(gpu="gpu", state="starting"))
    assert net.take(monitor) == []


def test_connections_per_license_are_limited_with_a_message() -> None:
    net = Net(per_license=2)
    first, _ = net.join("client"), net.join("client")
    third = net.open()
    net.take(third)
    net.register(third, "client")
    error = net.take(third)[0]
    assert isinstance(error, m.Error)
    assert (error.code, net.closed[third]) == ("too_many_connections", hub.TOO_MANY)
    net.happen(f.Closed(first))
    assert net.closed.get(net.join("client")) is None


def test_a_key_is_forgotten_with_the_last_connection_and_job_of_its_license(net: Net, client: int) -> None:
    net.submit(client)
    net.happen(f.Closed(client))
    assert net.state.keys == {"id-key-client": "key-client"}  # a worker may still have to get it
    net.happen(f.Revoked("id-key-client"))
    assert net.state.keys == {}


def test_an_address_too_long_to_repeat_is_refused() -> None:
    with pytest.raises(wire.Malformed, match="url"):
        wire.decode(f'{{"type":"register","role":"worker","url":"http://{"w" * m.MAX_URL}"}}')
    with pytest.raises(wire.Malformed):
        wire.decode(f"http://{'w' * m.MAX_URL}")


@pytest.mark.parametrize("message", [m.Boot(), m.Boot(request_id="b"), m.StatusQuery(request_id="q")])
def test_one_client_cannot_drown_the_monitors(message: m.Message) -> None:
    net = Net(passed_on=3)
    client, other, monitor = net.join("client"), net.join("client"), net.join("monitor", gpus=("gpu",))
    for _ in range(10):
        net.say(client, message)
    assert len(net.take(monitor)) == 3
    assert {answer.code for answer in net.take(client) if isinstance(answer, m.Error)} == {"too_fast"}
    net.say(other, m.Boot())
    assert len(net.take(monitor)) == 1
    net.now += 1
    net.say(client, message)
    assert len(net.take(monitor)) == 1


def test_of_many_submits_in_a_second_all_are_queued_and_enough_wake_the_gpu() -> None:
    net = Net(passed_on=3)
    client, monitor = net.join("client"), net.join("monitor", gpus=("gpu",))
    for number in range(10):
        assert isinstance(net.submit(client, f"j{number}"), m.Offline)
    assert len(net.take(monitor)) == 3
    assert len(net.state.queue) == 10
