import math

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import to_event
from wakestream.streams.protocol import messages as m


def test_any_number_of_wakes_are_one_start() -> None:
    desk = Desk().off()
    for number in range(5):
        desk.happens(p.Wake(f"job-{number}"))
    desk.taken()
    desk.happens(p.Wake("late"))
    desk.passes(5.0)
    assert len(desk.did(p.Start)) == 1
    assert desk.state == "starting"


def test_a_start_does_not_wait_for_an_inspect_and_ignores_its_answer() -> None:
    desk = Desk().off()
    desk.passes(60.0)
    look = desk.call()
    assert desk.happens(p.Wake("job-1"))[-1] == p.Start(look.number + 1)
    desk.happens(p.Reading(look.number, "failed"))
    assert desk.state == "starting"


def test_booted_is_sent_when_the_machine_runs_and_is_not_online() -> None:
    desk = Desk().booted()
    assert [booted.request_id for booted in desk.said(m.Booted)] == ["job-1"]
    assert desk.states()[-1] == "booted"
    desk.happens(p.HealthAnswer(False, "loading"))
    assert desk.state == "booted"
    desk.happens(p.HealthAnswer(True))
    assert desk.states()[-1] == "online"


def test_a_worker_at_work_is_online_where_its_health_cannot_be_asked() -> None:
    desk = Desk(checks_health=False).booted()
    desk.happens(m.TaskActive(task_id="task-1"))
    assert desk.state == "online"


def test_a_failed_boot_is_reported_at_once_with_its_wake_and_reason() -> None:
    desk = Desk().starting()
    desk.happens(p.Wake("job-2"))
    desk.reads("failed", "disk is full")
    assert desk.said(m.BootResult) == [
        m.BootResult(request_id="job-2", success=False, status="failed", msg="disk is full", gpu="gpu-1")
    ]


def test_a_start_that_is_accepted_and_never_happens_fails_at_the_boot_timeout() -> None:
    desk = Desk(boot_timeout=100.0).starting()
    for _ in range(9):
        desk.reads("stopped")
        desk.passes(10.0)
    assert desk.state == "starting"
    desk.passes(20.0)
    assert desk.state == "failed"
    assert "accepted the start, but the machine does not run" in (desk.said(m.BootResult)[0].msg or "")


def test_a_machine_that_falls_back_from_starting_to_stopped_has_failed() -> None:
    desk = Desk().starting()
    desk.reads("stopped")
    desk.reads("starting")
    desk.reads("stopped")
    assert desk.state == "failed"


def test_a_wake_after_a_failed_boot_inspects_first_and_then_retries() -> None:
    desk = Desk().failed()
    desk.happens(p.Wake("job-2"))
    assert len(desk.did(p.Start)) == 1
    desk.reads("failed")
    assert len(desk.did(p.Start)) == 2
    assert desk.state == "starting"


def test_a_boot_that_failed_during_a_hub_outage_is_reported_after_it() -> None:
    desk = Desk().starting()
    desk.cut()
    desk.reads("failed", "no driver")
    assert desk.said(m.BootResult) == []
    desk.happens(LinkUp(frozenset({"power_state"})))
    assert desk.said(m.BootResult)[0].msg == "no driver"
    desk.happens(LinkUp(frozenset({"power_state"})))
    assert len(desk.said(m.BootResult)) == 1


def test_a_machine_that_never_comes_online_is_stopped_after_its_failure_was_reported() -> None:
    desk = Desk(boot_timeout=100.0).booted()
    desk.passes(100.0)
    assert desk.states()[-2:] == ["failed", "stopping"]
    assert len(desk.said(m.BootResult)) == 1
    assert len(desk.did(p.Stop)) == 1


def failed_and_asking() -> Desk:
    """A monitor that gave up on a machine that had served, and has asked the hub who holds it."""
    desk = Desk(boot_timeout=100.0, idle_after=500.0).online()
    for _ in range(3):
        desk.happens(p.HealthAnswer(False, "refused"))
    desk.passes(100.0)
    assert desk.state == "failed"
    return desk


def test_a_failed_machine_is_stopped_only_when_the_hub_has_no_lease() -> None:
    desk = failed_and_asking()
    assert desk.said(m.TaskQuery)[-1].drain is None
    desk.answers(1)
    desk.reads("running")
    assert desk.state == "booted"
    desk.passes(100.0)
    assert desk.did(p.Stop) == []
    desk.answers(0)
    assert desk.states()[-2:] == ["failed", "stopping"]


@pytest.mark.parametrize(("active", "then"), [(0, "stopping"), (1, "booted")])
def test_an_inspect_before_the_hubs_answer_does_not_lose_a_failed_machine(active: int, then: str) -> None:
    desk = failed_and_asking()
    desk.reads("running")
    desk.answers(active)
    assert desk.machine.use.active == active
    if active:
        assert isinstance(desk.call(), p.Inspect)  # at once
        desk.reads("running")
    assert desk.state == then


def test_a_failed_machine_unknown_to_the_hub_is_inspected_as_before() -> None:
    desk = failed_and_asking()
    desk.reads("running")
    assert desk.state == "failed"
    desk.passes(desk.policy.query_timeout + 1)
    desk.reads("running")
    assert desk.state == "booted"


@pytest.mark.parametrize(("active", "stops"), [(0, 1), (1, 0)])
def test_an_old_hub_is_asked_before_a_machine_is_given_up(active: int, stops: int) -> None:
    desk = Desk(ours=False).booted()
    desk.passes(desk.policy.boot_timeout)
    assert desk.state == "failed"
    assert not desk.did(p.Stop)
    desk.answers(active)
    assert len(desk.did(p.Stop)) == stops


def test_an_adopted_machine_with_an_unreachable_worker_is_not_stopped_without_a_query() -> None:
    desk = Desk(boot_timeout=100.0)
    desk.reads("running")
    desk.passes(100.0)
    assert desk.state == "failed"
    assert desk.did(p.Stop) == []
    desk.answers(1)
    assert desk.did(p.Stop) == []


def test_a_reason_that_quotes_a_program_fits_into_a_frame() -> None:
    desk = Desk().starting()
    desk.reads("failed", "\x00" * 100_000)
    assert len(desk.said(m.BootResult)[0].msg or "") == 1000


def test_no_capacity_is_reported_and_retried_until_the_boot_timeout() -> None:
    desk = Desk(boot_timeout=300.0).no_capacity()
    assert desk.states()[-1] == "no_capacity"
    begun, delays = desk.machine.boot.since, []
    while desk.machine.boot.retry_at - begun < 300.0:
        delays.append(desk.machine.boot.retry_at - desk.now)
        desk.passes(delays[-1])
        desk.fails("no stock", no_capacity=True)
    assert len(desk.did(p.Start)) == len(delays) + 1
    assert delays[0] <= 5.0
    assert max(delays) > 25.0
    desk.passes(300.0)
    assert desk.state == "failed"
    assert "no capacity (no stock)" in (desk.said(m.BootResult)[0].msg or "")


def test_the_next_try_for_capacity_is_told() -> None:
    desk = Desk(boot_timeout=3000.0).no_capacity()
    for _ in range(6):
        said, left = desk.said(m.PowerState)[-1], desk.machine.boot.retry_at - desk.now
        assert said.state == "no_capacity"
        assert said.retry_in == math.ceil(round(left, 3)) > 0
        desk.passes(left)
        assert desk.said(m.PowerState)[-1].retry_in is None, "starting"
        desk.fails("no stock", no_capacity=True)


@pytest.mark.parametrize("event", [p.Wake("job-2"), m.TaskActive(task_id="task-1"), p.HealthAnswer(True, busy=1)])
def test_a_wake_or_a_task_that_comes_while_it_drains_calls_the_stop_off(event: p.PowerEvent) -> None:
    desk = Desk().draining()
    desk.happens(event)
    assert desk.states()[-1] == desk.state == "online"
    desk.answers(0)
    assert desk.did(p.Stop) == []


def test_an_idle_machine_without_leases_is_stopped() -> None:
    desk = Desk(idle_after=60.0).draining()
    assert desk.said(m.TaskQuery)[-1].drain is True
    desk.answers(0)
    assert desk.state == "stopping"
    desk.taken()
    desk.reads("running")
    desk.reads("stopping")
    desk.reads("stopped")
    assert desk.states()[-3:] == ["draining", "stopping", "off"]
    assert len(desk.did(p.Stop)) == 1


def test_an_old_hub_gets_no_new_fields_and_no_power_states() -> None:
    desk = Desk(ours=False).stopping()
    assert desk.said(m.TaskQuery) == [m.TaskQuery(request_id="query-gpu-1-1")]
    assert desk.said(m.PowerState) == []
    assert len(desk.did(p.Stop)) == 1


@pytest.mark.parametrize(("active", "recent"), [(1, False), (0, True), (3, True)])
def test_a_machine_in_use_stays_on_and_its_idle_time_starts_again(active: int, recent: bool) -> None:
    desk = Desk(idle_after=60.0).draining()
    desk.answers(active, recent=recent)
    assert desk.state == "online"
    asked = len(desk.said(m.TaskQuery))
    desk.passes(59.0)
    assert len(desk.said(m.TaskQuery)) == asked
    desk.now -= 59.0
    desk.drains()
    assert desk.did(p.Stop) == []


def test_a_missing_hub_reply_and_a_late_one_to_an_old_question_stop_nothing() -> None:
    desk = Desk(idle_after=60.0).draining()
    old = desk.said(m.TaskQuery)[-1].request_id
    desk.passes(30.0)
    assert desk.state == "online"
    desk.drains()
    desk.happens(m.TaskQueryResponse(request_id=old, active_count=0, has_recent_active=False))
    assert desk.state == "draining"
    assert desk.did(p.Stop) == []


def test_without_a_hub_nothing_is_drained() -> None:
    desk = Desk(idle_after=60.0).draining()
    desk.cut()
    assert desk.state == "online"
    desk.passes(1000.0)
    assert desk.state == "online"


def test_a_refused_stop_is_retried() -> None:
    desk = Desk().draining()
    desk.answers(0)
    desk.fails("try later")
    desk.reads("running")
    desk.passes(desk.policy.trouble.max_delay)
    assert desk.state == "stopping"
    assert len(desk.did(p.Stop)) == 2


def test_a_machine_that_cannot_be_inspected_is_unknown_and_retried() -> None:
    desk = Desk().off()
    pauses = []
    for _ in range(6):
        desk.fails("no answer")
        pauses.append(desk.machine.looks.next_at - desk.now)
    assert desk.state == "unknown"
    assert pauses[-1] > pauses[0]
    desk.happens(p.Wake("job-2"))
    desk.fails("no answer")
    assert desk.did(p.Start) == []
    desk.reads("stopped")
    assert len(desk.did(p.Start)) == 1


def test_jobs_that_wait_for_an_uninspectable_machine_get_the_reason() -> None:
    desk = Desk(boot_timeout=100.0)
    desk.happens(p.Wake("job-1"))
    desk.fails("no answer")
    desk.passes(100.0)
    assert desk.said(m.BootResult)[0].request_id == "job-1"
    assert desk.state == "unknown"


def test_a_healthy_worker_is_not_given_up_because_the_provider_is_silent() -> None:
    desk = Desk(idle_after=10_000.0).online()
    for _ in range(10):
        desk.fails("no answer")
        desk.happens(p.HealthAnswer(True))
    assert desk.state == "online"


def test_the_longest_uptime_is_warned_of_then_drained_and_then_stopped() -> None:
    desk = Desk(max_uptime=1000.0, idle_after=5000.0).online()
    desk.passes(900.0)
    assert "will be stopped in 100 s" in (desk.said(m.PowerState)[-1].msg or "")
    assert [said.stops_in for said in desk.said(m.PowerState) if said.stops_in is not None] == [100]
    assert any("will be stopped in 100 s" in note.text for note in desk.did(p.LogNote))
    warnings = len(desk.said(m.PowerState))
    desk.passes(50.0)
    assert len(desk.said(m.PowerState)) == warnings
    desk.passes(50.0)
    assert desk.state == "draining"
    desk.answers(1)
    desk.happens(m.TaskActive(task_id="task-1"))
    desk.happens(p.Wake("job-2"))
    assert desk.state == "draining"
    desk.passes(30.0)
    desk.answers(0)
    assert desk.state == "stopping"
    desk.taken()
    desk.reads("stopped")
    assert desk.state == "starting"


def test_jobs_that_never_end_are_cut_off_some_time_after_the_longest_uptime() -> None:
    desk = Desk(max_uptime=1000.0, idle_after=5000.0).online()
    desk.passes(1000.0)
    desk.answers(1)
    desk.passes(99.0)
    assert desk.did(p.Stop) == []
    desk.passes(1.0)
    assert len(desk.did(p.Stop)) == 1


def test_a_status_query_is_answered_from_memory_and_after_an_inspect() -> None:
    desk = Desk().off()
    desk.passes(10.0)
    desk.happens(m.StatusQuery(request_id="q-1"))
    first = m.StatusResponse(request_id="q-1", status="stopped")
    assert desk.said(m.StatusResponse) == [first]
    desk.reads("running")
    assert desk.said(m.StatusResponse) == [first, m.StatusResponse(request_id="q-1", status="running", fresh=True)]
    desk.reads("running")
    assert len(desk.said(m.StatusResponse)) == 2
    desk.passes(desk.policy.fresh_for + 1.0)
    desk.happens(m.StatusQuery(request_id="q-2"))
    desk.fails("no answer")
    assert desk.said(m.StatusResponse)[2:] == [m.StatusResponse(request_id="q-2", status="running")]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("unknown", "unknown"), ("off", "stopped"), ("starting", "starting"), ("no_capacity", "starting"),
        ("booted", "running"), ("online", "running"), ("draining", "running"), ("stopping", "stopping"),
        ("failed", "stopped"),
    ],
)  # fmt: skip
def test_each_state_has_the_fields_word(state: str, status: str) -> None:
    desk = Desk()
    getattr(desk, state)()
    desk.happens(m.StatusQuery(request_id="q-1"))
    if not desk.said(m.StatusResponse):
        desk.fails("no answer")
    assert desk.said(m.StatusResponse)[-1].status == status


def test_a_hub_that_came_back_learns_the_present_state() -> None:
    desk = Desk().booted()
    desk.cut()
    before = len(desk.states())
    desk.happens(p.HealthAnswer(True))
    assert len(desk.states()) == before
    desk.happens(LinkUp(frozenset({"power_state"})))
    assert desk.states()[-1] == "online"


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (m.Boot(request_id="r"), p.Wake("r", boot=True, answer=True)),
        (m.Boot(gpu="gpu-1"), p.Wake(None, boot=True, answer=True)),
        (m.Boot(request_id="r", source="hub"), p.Wake("r", boot=True)),
        (m.Unknown(type="gpu.job.submit", frame={"task_type": "heygem_submit", "key": "k"}), p.Wake()),
        (m.Unknown(type="gpu_task"), p.Wake()),
        (m.Unknown(type="url", frame={"key": "k"}), p.Wake()),
        (m.Unknown(type="chatglm_video", frame={"key": "k"}), p.Wake()),
        (m.Unknown(type="mobile_task"), None),
        (m.Boot(gpu="gpu-2"), None),
        (m.Submit(request_id="r"), p.Wake("r")),
        (m.Online(gpu="gpu-2"), None),
        (m.Release(gpu="gpu-2"), None),
        (m.PowerState(gpu="gpu-1", state="online"), None),
        (m.Ping(), None),
    ],
)
def test_the_hubs_requests_wake_the_gpu_that_they_name(message: m.Message, event: p.PowerEvent | None) -> None:
    assert to_event(message, "gpu-1") == event


def test_what_else_the_hub_says_is_an_event_itself() -> None:
    for message in (
        m.StatusQuery(request_id="r"),
        m.TaskActive(task_id="t"),
        m.TaskQueryResponse(request_id="r", active_count=1, has_recent_active=True),
        m.Online(),
        m.PowerState(gpu="gpu-1", state="lost"),
        m.Release(gpu="gpu-1"),
    ):
        assert to_event(message, "gpu-1") is message


def test_a_flood_of_boot_requests_is_answered_at_once_and_then_once_a_second() -> None:
    desk = Desk().online()
    before = len(desk.states())
    for _ in range(1000):
        desk.happens(p.Wake(boot=True))
    assert len(desk.states()) == before + 1
    desk.passes(1.0)
    desk.passes(1.0)
    assert desk.states()[before:] == ["online", "online"]


def overdue_and_draining() -> Desk:
    """A machine that is on for longer than allowed; the hub is asked who holds it."""
    desk = Desk(max_uptime=1000.0, idle_after=100_000.0).online()
    desk.passes(1000.0)
    assert desk.state == "draining"
    return desk


@pytest.mark.parametrize(
    "event",
    [m.TaskActive(task_id="task-1"), LinkDown("cut"), p.Wake("job-2")],
    ids=["at work", "the hub is gone", "woken"],
)
def test_the_maximum_uptime_cannot_be_called_off(event: p.PowerEvent) -> None:
    desk = overdue_and_draining()
    desk.happens(event)
    assert desk.state == "draining"
    assert desk.states()[-1] == "draining"


def asks(desk: Desk, seconds: int) -> list[int]:
    """After how many of the next seconds the worker was asked for its health, and answered that it is well."""
    asked = []
    for second in range(1, seconds + 1):
        if any(isinstance(command, p.CheckHealth) for command in desk.passes(1.0)):
            asked.append(second)
            desk.happens(p.HealthAnswer(True))
    return asked


def test_health_is_checked_rarely_and_often_when_the_worker_may_be_lost() -> None:
    desk = Desk(look_soon=2.0, look_online=10.0).online()
    assert asks(desk, 2) == [2]  # once more soon after it came
    assert asks(desk, 30) == [10, 20, 30]
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    assert desk.did(p.CheckHealth)
    desk.happens(p.HealthAnswer(False, "refused"))
    assert [any(isinstance(c, p.CheckHealth) for c in desk.passes(1.0)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize(("age", "fresh"), [(5.0, [True]), (5.000003, [True]), (5.1, [None])])
def test_a_reading_counts_as_fresh_for_a_while_which_need_not_be_exact_to_microseconds(
    age: float, fresh: list[bool | None]
) -> None:
    desk = Desk(fresh_for=5.0).off()
    desk.now += age
    desk.happens(m.StatusQuery(request_id="q-1"))
    assert [said.fresh for said in desk.said(m.StatusResponse)] == fresh


def test_a_worker_seen_by_the_hub_first_is_online_with_the_first_inspect() -> None:
    desk = Desk().starting()
    desk.happens(m.Online())
    desk.reads("stopped")
    assert desk.state == "starting"
    desk.reads("running")
    assert desk.states()[-2:] == ["booted", "online"]


def test_a_wake_without_an_id_keeps_the_earlier_id() -> None:
    desk = Desk().starting()
    desk.happens(p.Wake())
    desk.reads("running")
    assert [said.request_id for said in desk.said(m.Booted)] == ["job-1"]
    assert desk.machine.reason == "the provider says running"


def test_after_a_lost_connection_the_hub_learns_since_when_the_machine_is_off_and_since_when_it_is_on() -> None:
    desk, hub = Desk().online(), LinkUp(frozenset({"power_state", "power_age"}))
    desk.happens(LinkDown("the hub is gone"))
    desk.passes(100)
    desk.reads("stopped")
    desk.passes(60)
    desk.happens(hub)
    between_looks = desk.policy.look_online / 2
    assert [(said.state, said.age) for said in desk.said(m.PowerState)[-1:]] == [("off", 60 + between_looks)]
    desk.happens(LinkDown("the hub is gone again"))
    desk.reads("running", age=30.0)
    found = desk.now
    desk.passes(500)
    desk.happens(hub)
    assert [(said.state, said.age) for said in desk.said(m.PowerState)[-1:]] == [
        ("booted", round(desk.now - found) + 30)
    ]
    desk.happens(LinkDown("a hub of 0.1.0 comes"))
    desk.happens(LinkUp(frozenset({"power_state"})))
    assert desk.said(m.PowerState)[-1].age is None


def test_a_machine_that_was_off_while_the_hub_was_away_says_so_before_it_says_that_it_is_on() -> None:
    desk = Desk(max_uptime=50_000.0).online()
    desk.cut()
    desk.reads("stopped", age=0.0)
    off_at = desk.now
    desk.passes(1000)
    desk.reads("running", age=0.0)
    on_at = desk.now
    desk.passes(500)
    desk.happens(LinkUp(frozenset({"power_state", "power_age"})))
    said = [(message.state, message.age) for message in desk.said(m.PowerState)]
    assert said[-2:] == [("off", desk.now - off_at), (desk.state, desk.now - on_at)]


def test_a_provider_whose_clock_is_wrong_does_not_take_back_what_the_monitor_has_seen() -> None:
    desk = Desk().online()
    desk.happens(LinkUp(frozenset({"power_state", "power_age"})))
    desk.reads("running")
    seen = desk.now
    desk.passes(10)
    desk.reads("stopped", age=31_536_000.0)
    age = desk.said(m.PowerState)[-1].age
    assert age is not None
    assert age <= desk.now - seen + 0.1
