"""What the hub tells of its GPUs, and that a restart forgets none of it."""

from typing import Any

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.local_time import DAY
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

MORNING = 20_000 * DAY + 9 * 3600.0
HOUR = 3600.0


def asked(net: Net, fd: int, since: int | None = None) -> m.HubStatus:
    return net.status(fd, since=since)


def boots(net: Net, monitor: int, seconds: float, gpu: str = "studio") -> int:
    """The GPU is off, and comes online `seconds` after a job began to wait for it."""
    net.phase(monitor, "starting", gpu)
    net.now += seconds
    return net.worker(gpu)


def a_day(price: float | None = 2.0) -> tuple[Net, int, int]:
    """Off at nine, on from ten to eleven, and again from twelve on, when a job holds it; it is one o'clock."""
    net = Net(MORNING, price=price)
    monitor, client = net.monitor(), net.join("client", owner="mine", features=("done", "hub_status"))
    net.phase(monitor, "off")
    net.now = MORNING + HOUR
    net.submit(client)
    worker = boots(net, monitor, 60.0)
    net.say(client, m.JobDone(request_id="j1"))
    net.now = MORNING + 2 * HOUR
    net.leave(worker)
    net.phase(monitor, "off", msg="no work for 1800 s")
    net.now = MORNING + 3 * HOUR
    net.submit(client, "j2")
    boots(net, monitor, 120.0)
    net.now = MORNING + 4 * HOUR
    return net, monitor, client


def test_the_feature_is_announced_only_to_peers_that_announce_it(net: Net) -> None:
    for role in ("client", "monitor"):
        fd = net.join(role, features=("hub_status",))
        assert "hub_status" in (net.heard(fd, m.Registered)[0].features or ())
    assert net.heard(net.join("client"), m.Registered)[0].features == hub.FEATURES


def test_the_status_and_queued_jobs_get_the_same_estimate() -> None:
    net, monitor, client = a_day()
    net.say(client, m.JobDone(request_id="j2"))
    net.leave(net.worker())
    net.phase(monitor, "stopping")
    net.submit(client, "j3")
    net.now += 30
    net.phase(monitor, "off")
    net.phase(monitor, "starting")
    net.now += 10
    net.submit(client, "j4")
    told = net.heard(client, m.Offline)[-1].eta_s
    assert told == {"p50": 20.0, "p90": 80.0}
    assert asked(net, client).eta_s == told


def test_it_reports_phase_uptime_holders_costs_and_boot_times() -> None:
    net, monitor, client = a_day()
    answer = asked(net, client)
    (gpu,) = answer.gpus
    assert (gpu["gpu"], gpu["phase"], gpu["since"]) == ("studio", "online", int(MORNING + 3 * HOUR + 120))
    assert gpu["uptime_s"] == HOUR
    assert (gpu["own_jobs"], gpu["own"], gpu["others"]) == (["j2"], 1, 0)
    assert gpu["today"] == {"on_s": 2 * HOUR, "of_s": 4 * HOUR, "cost": 4.0, "saved": 4.0}
    assert gpu["month"] == gpu["today"] == gpu["all"]
    assert (answer.boots, answer.boot_s) == (2, {"p50": 60.0, "p90": 120.0})
    assert (answer.queue, answer.own_queued, answer.monitors) == (0, 0, 1)
    assert (answer.eta_s, answer.depot) == (None, None), "no job waits, and there is no depot"
    for other in (net.join("client", owner="other"), monitor):
        (gpu,) = asked(net, other).gpus
        assert (gpu["own_jobs"], gpu["own"], gpu["others"]) == ([], 0, 1), "it is counted and not named"


def test_one_connection_cannot_keep_the_hub_busy_with_questions() -> None:
    net, _, client = a_day()
    for _ in range(100):
        net.say(client, m.HubStatusQuery(request_id="q"))
    assert len(net.heard(client, m.HubStatus)) == 20
    assert {error.code for error in net.heard(client, m.Error)} == {"too_fast"}
    net.pass_time(1.0)
    assert asked(net, client).gpus


def test_the_workers_address_is_sent_to_peers_that_announced_the_feature() -> None:
    net = Net(MORNING)
    doctor = net.join("client", features=("hub_status", "gpu_url"))
    other = net.join("client", features=("hub_status",))
    assert "gpu_url" in (net.heard(doctor, m.Registered)[0].features or ())
    assert "gpu_url" not in (net.heard(other, m.Registered)[0].features or ())
    worker = net.worker()
    assert asked(net, doctor).gpus[0]["url"] == net.state.gpus["studio"].url is not None
    assert "url" not in asked(net, other).gpus[0]
    net.leave(worker)
    assert "url" not in asked(net, doctor).gpus[0]


def test_without_a_price_it_reports_only_times() -> None:
    net, _, client = a_day(price=None)
    (gpu,) = asked(net, client).gpus
    assert gpu["today"] == {"on_s": 2 * HOUR, "of_s": 4 * HOUR}
    assert "price_per_hour" not in gpu


def test_a_monitors_warning_is_reported_in_an_unchanged_phase() -> None:
    net, monitor, client = a_day()
    before = asked(net, client).gpus[0]
    net.phase(monitor, "online", msg="will be stopped in 600 s: the longest allowed uptime is nearly over")
    after = asked(net, client).gpus[0]
    assert after["why"] == "will be stopped in 600 s: the longest allowed uptime is nearly over"
    assert (after["since"], after["all"]) == (before["since"], before["all"])


def test_a_gpu_that_is_off_says_why_it_was_switched_off(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client")
    net.phase(monitor, "online")
    net.worker()
    for phase, said in (
        ("draining", "no work for 300 s"),
        ("stopping", "nobody holds it"),
        ("off", "the program has ended"),
        ("off", "the provider says stopped"),  # its monitor was restarted
    ):
        net.phase(monitor, phase, msg=said)
    (gpu,) = asked(net, client).gpus
    assert (gpu["phase"], gpu["why"]) == ("off", "no work for 300 s")


def test_it_tells_which_gpu_no_monitor_can_start(net: Net) -> None:
    client, studio, attic = net.join("client"), net.monitor("studio"), net.monitor("attic")
    for monitor, gpu in ((studio, "studio"), (attic, "attic")):
        net.phase(monitor, "off", gpu)
    net.leave(studio)
    assert {gpu["gpu"]: gpu.get("watched") for gpu in asked(net, client).gpus} == {"studio": False, "attic": None}
    net.join("monitor", owner="bob")  # without a name, but the GPU is of another license's monitor
    assert {gpu["gpu"]: gpu.get("watched") for gpu in asked(net, client).gpus} == {"studio": False, "attic": None}
    net.join("monitor")  # without a name, it may be that of any GPU
    assert {gpu["gpu"]: gpu.get("watched") for gpu in asked(net, client).gpus} == {"studio": None, "attic": None}


def test_a_gpu_with_a_healthy_unregistered_worker_is_reported_with_its_time(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client")
    net.phase(monitor, "booted", msg="the provider says running")
    net.pass_time(60.0)
    net.phase(monitor, "online", msg="its worker is initialized")
    began, kept = net.now, len(net.journal)
    net.pass_time(1800.0)
    net.phase(monitor, "draining", msg="no work for 1800 s")
    net.phase(monitor, "online", msg="still in use (1 jobs)")
    net.phase(monitor, "online", msg="still in use (1 jobs)")
    (gpu,) = asked(net, client).gpus
    assert gpu["phase"] == "booted"
    assert "has not come to this hub" in gpu["why"]
    assert gpu["since"] == began
    assert len(net.journal) == kept
    net.worker()
    (gpu,) = asked(net, client).gpus
    assert (gpu["phase"], gpu.get("why")) == ("online", None)


def test_jobs_fail_if_the_gpu_is_on_and_its_worker_does_not_register_in_boot_time() -> None:
    net = Net(unregistered=600.0)
    monitor, client = net.monitor(), net.join("client")
    net.phase(monitor, "online", msg="its worker is initialized")
    net.pass_time(300.0)
    net.submit(client, "early")
    net.pass_time(300.0)
    net.submit(client, "late")
    net.phase(monitor, "draining", msg="no work for 300 s")  # a short idle time does not delay it
    net.phase(monitor, "online", msg="still in use (2 jobs)")
    assert net.heard(client, m.BootResult) == []
    net.pass_time(300.0)
    (told,) = net.heard(client, m.BootResult)
    assert (told.request_id, told.success, told.gpu) == ("early", False, "studio")
    assert "did not come to the hub within 600 s; look at the worker's log" in (told.msg or "")
    assert list(net.state.jobs) == ["late"]
    net.worker()
    assert [ack.request_id for ack in net.heard(client, m.Ack)] == ["late"]


@pytest.mark.parametrize("other", [None, "attic"])
def test_reports_of_a_disconnected_monitor_fail_no_job(other: str | None) -> None:
    net = Net(unregistered=600.0)
    monitor, client = net.monitor(), net.join("client")
    net.phase(monitor, "online")
    net.leave(monitor)
    if other is not None:
        net.phase(net.monitor(other), "no_capacity", other)
    net.submit(client)
    net.pass_time(3600.0)
    assert net.heard(client, m.BootResult) == []
    assert list(net.state.jobs) == ["j1"]


def test_an_earlier_name_of_a_monitor_does_not_count_after_a_failed_boot(net: Net) -> None:
    monitor, client = net.monitor("former"), net.join("client")
    net.phase(monitor, "online", "former")
    net.leave(monitor)
    monitor = net.monitor()
    net.submit(client)
    net.say(monitor, m.BootResult(request_id="j1", success=False, status="failed", msg="no", gpu="studio"))
    assert [told.msg for told in net.heard(client, m.BootResult)] == ["no"]
    assert list(net.state.jobs) == []


def test_jobs_do_not_fail_while_another_gpu_may_come_online() -> None:
    net = Net(unregistered=600.0)
    monitor, other, client = net.monitor(), net.monitor("attic"), net.join("client")
    net.phase(monitor, "online")
    net.phase(other, "starting", "attic")
    net.submit(client)
    net.pass_time(3600.0)
    assert list(net.state.jobs) == ["j1"]
    net.phase(other, "off", "attic")
    net.pass_time(1.0)
    assert list(net.state.jobs) == []


def test_a_custom_period_starts_at_the_beginning_of_its_day() -> None:
    net, _, client = a_day()
    yesterday = int(MORNING - DAY)
    assert asked(net, client, yesterday).gpus[0]["asked"]["on_s"] == 2 * HOUR
    net.now += 3 * DAY
    assert asked(net, client, int(net.now - DAY)).gpus[0]["asked"]["on_s"] == DAY + 13 * HOUR


def test_entries_that_do_not_fit_into_a_frame_are_counted() -> None:
    net = Net(price=1.0)
    client = net.join("client", owner="mine")
    for number in range(150):
        net.phase(net.monitor(f"gpu-{number}"), "off", f"gpu-{number}", "x" * 300)
    answer = asked(net, client)
    assert answer.more
    assert len(answer.gpus) + answer.more == 150
    assert len(wire.encode(answer).encode()) <= wire.MAX_FRAME


# What a restart must not forget


def test_a_restarted_hub_reports_the_same_costs_and_boot_times() -> None:
    net, _, client = a_day()
    before = asked(net, client)
    net.restart()
    client = net.join("client", owner="mine")
    after = asked(net, client)
    for name in ("today", "month", "all", "uptime_s", "own_jobs"):
        assert after.gpus[0][name] == before.gpus[0][name], name
    assert (after.boots, after.boot_s) == (before.boots, before.boot_s)
    assert after.gpus[0]["phase"] == "lost"  # until its worker is back


def test_queued_jobs_get_the_usual_boot_time_after_a_restart() -> None:
    net, monitor, client = a_day()
    net.say(client, m.JobDone(request_id="j2"))
    net.phase(monitor, "off")
    assert net.reply(m.Offline, client, "j3").eta_s == {"p50": 60.0, "p90": 120.0}
    net.now += 20.0
    net.restart()
    assert net.reply(m.Offline, net.join("client", owner="mine"), "j3").eta_s == {"p50": 40.0, "p90": 100.0}


def test_the_time_of_a_boot_is_that_of_each_gpu(net: Net) -> None:
    client, quick, slow = net.join("client"), net.monitor("quick"), net.monitor("slow")
    for number, (monitor, gpu, seconds) in enumerate(((quick, "quick", 20.0), (slow, "slow", 300.0))):
        net.submit(client, f"j{number}", {"gpus": [gpu]})
        worker = boots(net, monitor, seconds, gpu)
        net.say(client, m.JobDone(request_id=f"j{number}"))
        net.leave(worker)
        net.phase(monitor, "off", gpu)
    net.restart()
    client = net.join("client")
    told = {gpu["gpu"]: (gpu["boots"], gpu["boot_s"]["p50"]) for gpu in asked(net, client).gpus}
    assert told == {"quick": (1, 20.0), "slow": (1, 300.0)}
    assert (net.reply(m.Offline, client, "j3", {"gpus": ["quick"]}).eta_s or {})["p50"] == 20.0


def test_the_last_hundred_boots_count(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client")
    for number in range(150):
        net.submit(client, f"j{number}")
        worker = boots(net, monitor, float(number))
        net.say(client, m.JobDone(request_id=f"j{number}"))
        net.leave(worker)
        net.phase(monitor, "off")
    net.restart()
    answer = asked(net, net.join("client"))
    assert (answer.boots, answer.boot_s) == (100, {"p50": 99.0, "p90": 139.0})


def test_each_change_of_a_gpu_is_stored_with_time_and_cause() -> None:
    net, monitor, _ = a_day()
    net.phase(monitor, "stopping", msg="nobody holds it")
    kept: list[Any] = [fact for fact in net.journal if getattr(fact, "LEDGER", False)]
    assert all(fact.at for fact in kept)
    phases = [getattr(fact, "phase", type(fact).__name__) for fact in kept]
    assert phases == [
        "off",
        "starting",
        "GpuOnline",
        "BootTook",
        "lost",
        "off",
        "starting",
        "GpuOnline",
        "BootTook",
        "stopping",
    ]
    assert kept[-1].cause == "nobody holds it"


def test_clients_hear_when_the_provider_is_asked_for_a_machine_again() -> None:
    net = Net(MORNING)
    monitor = net.monitor()
    client, other = (net.join("client", features=("power_state", "hub_status")) for _ in range(2))

    def retry_at() -> float | None:
        return asked(net, client).gpus[0].get("retry_at")

    net.phase(monitor, "no_capacity", msg="no stock", retry_in=40)
    assert [said.retry_in for said in net.heard(other, m.PowerState)] == [40]
    net.pass_time(10.0)
    reply = net.reply(m.Offline, client)
    assert (reply.phase, reply.retry_in) == ("no_capacity", 30)
    assert retry_at() == MORNING + 40
    net.phase(monitor, "no_capacity", msg="no stock", retry_in=5)
    assert retry_at() == MORNING + 15
    net.phase(monitor, "no_capacity", msg="no stock")
    assert retry_at() is None
    for strange, seconds in ((2**63, 86_400), (-1, 0)):
        net.phase(monitor, "no_capacity", retry_in=strange)
        assert retry_at() == MORNING + 10 + seconds
    net.restart()
    monitor, client = net.monitor(), net.join("client", features=("power_state", "hub_status"))
    assert retry_at() == MORNING + 10
    net.phase(monitor, "starting", msg="asking again")
    reply = net.reply(m.Offline, client, "next")
    assert reply.retry_in is retry_at() is None


def test_it_tells_what_is_planned_for_each_gpu_and_when_waiting_jobs_start() -> None:
    net = Net(MORNING)
    for gpu in ("lab", "studio"):
        net.monitor(gpu, "release")
    net.phase(1, "off", "lab")
    late = net.join("client", owner="mine", features=("done", "hub_status", "queue"))
    other = net.join("client", owner="other", features=("done", "hub_status"))
    for number in range(3):
        net.submit(late, f"j{number}")
    net.pass_time(1)
    told = asked(net, late)
    plans = {gpu["gpu"]: gpu["plan"] for gpu in told.gpus}
    assert plans["lab"] == {"do": "wake", "in_s": None, "why": "it is started for jobs that wait"}
    (line,) = told.expected or ()
    assert (line["kind"], line["jobs"]) == ("lipsync", 3)
    assert 0 < line["first_s"] < line["last_s"]
    assert asked(net, other).expected is None, "it is told of its own jobs only"
    net.pass_time(2)
    assert (asked(net, late).expected or ())[0]["first_s"] < line["first_s"]


def in_depot(net: Net, *facts: f.Fact) -> None:
    for fact in (f.DepotHeld("id-depot", "depot", net.now), *facts):
        hub.DECIDER.evolve(net.state, fact)
        net.journal.append(fact)


def files(size: int, letter: str = "a") -> tuple[d.DepotFile, ...]:
    return (d.DepotFile(name="video", blake3=letter * 64, size=size),)


def test_it_tells_what_a_license_has_in_the_depot_and_an_admin_who_has_most(net: Net) -> None:
    used = [f.DepotUsed("mine", files(30), net.now), f.DepotUsed("other", (*files(30), *files(5, "b")), net.now)]
    in_depot(net, *used)
    mine = asked(net, net.join("client", owner="mine", features=("hub_status",))).depot or {}
    assert (mine["up"], mine["files"], mine["size"], "licenses" in mine) == (False, 1, 30, False)
    boss = asked(net, net.join("admin", owner="boss", features=("hub_status",))).depot or {}
    assert [(use["license"], use["files"], use["size"]) for use in boss["licenses"]] == [
        ("other", 2, 35),
        ("mine", 1, 30),
    ]
    assert (boss["files"], boss["size"]) == (3, 65)


def test_it_counts_the_jobs_that_go_through_the_depot_by_where_they_are(net: Net) -> None:
    client = net.join("client", owner="mine", features=("done", "hub_status", "queue"))
    gone = net.join("client", owner="mine", features=("done", "queue"))
    for name in ("storing", "stored", "direct"):
        net.submit(client, name)
    net.submit(gone, "away")
    in_depot(
        net,
        *(f.JobStoring(name, files(9), net.now) for name in ("storing", "stored", "away")),
        f.JobStored("stored", net.now),
        f.JobDelivered("ended", "mine", "studio", files(9), net.now),
    )
    net.leave(gone)
    told = asked(net, net.join("client", owner="mine", features=("hub_status",))).depot or {}
    counts = {name: told[name] for name in ("storing", "away", "stored", "at_work", "delivered")}
    assert counts == {"storing": 1, "away": 1, "stored": 1, "at_work": 0, "delivered": 1}


def upload(net: Net, *seen: tuple[int, float, float]) -> float:
    """The seconds saved by an upload of which these bytes are left, at this rate, so many seconds later."""
    hub.DECIDER.evolve(net.state, f.JobStoring("j1", files(1000), net.now))
    for left, rate, later in seen:
        net.now += later
        hub.DECIDER.evolve(net.state, f.UploadSeen("j1", left, rate, net.now))
    return net.state.upload_saved("j1", 0, 0.0, net.now)


def test_an_upload_while_no_gpu_is_on_saves_its_bytes_divided_by_the_rate(net: Net) -> None:
    net.submit(net.join("client", features=("done", "queue")))
    assert upload(net, (1000, 0.0, 0.0), (600, 100.0, 7200.0)) == 10.0, "a pause saves nothing"


def test_an_upload_while_a_gpu_is_on_saves_nothing(net: Net) -> None:
    net.submit(net.join("client", features=("done", "queue")))
    net.phase(net.monitor(), "starting")
    assert upload(net, (1000, 0.0, 0.0), (600, 100.0, 4.0)) == 0.0


def test_what_the_depot_saved_this_month_survives_a_restart() -> None:
    net = Net(MORNING)
    net.submit(net.join("client", features=("done", "queue")))
    in_depot(net, f.JobStoring("j1", files(9), net.now), f.JobStored("j1", net.now, saved=90.0))
    net.restart()
    assert (asked(net, net.join("client", features=("hub_status",))).depot or {})["saved_s"] == 90
    net.now += 60 * DAY
    assert (asked(net, net.join("client", features=("hub_status",))).depot or {})["saved_s"] == 0
