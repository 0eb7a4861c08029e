"""Whose a GPU's name is: of the license that it was issued for, or else of the first that used it."""

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.state import UNWATCHED
from wakestream.streams.protocol import messages as m

DAY = 86_400.0


def worker(net: Net, owner: str, gpu: str | None = "studio") -> int:
    fd = net.join("worker", owner=owner, gpu=gpu, url=f"http://{owner}:1", features=("range",))
    net.say(fd, m.Online())
    return fd


def monitor(net: Net, owner: str, *gpus: str) -> int:
    return net.join("monitor", owner=owner, gpus=gpus or None, features=("power_state",))


def issued(net: Net, *tied: tuple[str, str, tuple[str, ...]]) -> None:
    net.happen(f.BookSeen(tied))


def codes(net: Net, fd: int) -> list[str | None]:
    return [error.code for error in net.heard(fd, m.Error)]


# Workers


@pytest.mark.parametrize("restarted", [False, True])
def test_a_gpu_with_an_offline_worker_is_not_available_to_other_licenses(net: Net, restarted: bool) -> None:
    net.leave(worker(net, "w"))
    if restarted:
        net.restart()
    client = net.join("client")
    net.submit(client)
    thief = worker(net, "thief")
    assert (codes(net, thief)[:1], thief in net.closed) == (["gpu_taken"], True)
    assert net.state.jobs["j1"].gpu is None
    back = worker(net, "w")
    assert net.state.jobs["j1"].gpu == "studio"
    assert back not in net.closed


def test_a_key_issued_for_a_gpu_serves_only_that_gpu(net: Net) -> None:
    issued(net, ("w", "worker", ("studio",)))
    assert codes(net, worker(net, "w", "attic"))[:1] == ["forbidden"]
    assert codes(net, worker(net, "other"))[:1] == ["gpu_taken"]
    assert worker(net, "w") not in net.closed
    assert net.state.gpus["studio"].online


def test_an_issued_name_belongs_to_its_key_even_after_other_use(net: Net) -> None:
    first = worker(net, "first")
    issued(net, ("w", "worker", ("studio",)))
    assert first in net.closed
    assert worker(net, "w") not in net.closed


def test_an_unnamed_worker_gets_the_gpu_of_its_key(net: Net) -> None:
    issued(net, ("w", "worker", ("studio",)))
    monitor(net, "m", "attic")
    fd = worker(net, "w", None)
    assert net.state.connections[fd].gpu == "studio"


def test_a_deployed_worker_that_is_back_before_its_old_connection_broke_replaces_it(net: Net) -> None:
    issued(net, ("w", "worker", ("studio",)))
    before, after = worker(net, "w", None), worker(net, "w", None)
    assert list(net.closed) == [before]
    assert net.state.gpus["studio"].worker == after


def test_an_unnamed_worker_gets_no_gpu_of_another_license(net: Net) -> None:
    monitor(net, "m", "studio")
    net.leave(worker(net, "w"))
    fd = worker(net, "thief", None)
    assert net.state.connections[fd].gpu == "gpu"
    net.leave(fd)
    again = worker(net, "other", None)
    assert net.state.connections[again].gpu == "gpu-2"


def test_only_the_worker_that_holds_a_job_gives_its_result(net: Net) -> None:
    client, rogue = net.join("client"), worker(net, "rogue", "attic")
    net.phase(monitor(net, "m", "attic"), "off", "attic")
    net.submit(client)
    net.say(rogue, m.Result(request_id="j1", error=True, error_msg="no", license="id-client"))
    assert (list(net.state.jobs), net.heard(client, m.Result)) == (["j1"], [])
    assert codes(net, rogue) == ["forbidden"]
    holder = worker(net, "w")
    assert net.state.jobs["j1"].gpu == "studio"
    net.say(rogue, m.Result(request_id="j1", result={}, license="id-client"))
    assert (list(net.state.jobs), net.heard(client, m.Result)) == (["j1"], [])
    net.say(holder, m.Result(request_id="j1", result={}, license="id-client"))
    assert (list(net.state.jobs), len(net.heard(client, m.Result))) == ([], 1)


def test_a_worker_that_lost_its_job_for_a_moment_still_ends_it(net: Net) -> None:
    client, first = net.join("client"), worker(net, "w")
    net.submit(client)
    net.leave(first)
    net.submit(client)
    assert net.state.jobs["j1"].gpu is None
    back = net.join("worker", owner="w", gpu="studio", features=("range",))
    net.say(back, m.Result(request_id="j1", result={}))
    assert net.state.jobs == {}


def test_a_result_of_an_unknown_job_goes_only_to_licenses_that_the_worker_served(net: Net) -> None:
    client, rogue = net.join("client"), worker(net, "rogue", "attic")
    for message in (
        m.Result(request_id="x", license="id-client", result={}),
        m.Result(request_id="x", key="id-client", result={}),
    ):
        net.say(rogue, message)
    assert net.heard(client, m.Result) == []
    net.submit(client)
    net.say(client, m.JobDone(request_id="j1"))
    net.say(rogue, m.Result(request_id="j1", license="id-client", result={}))
    assert len(net.heard(client, m.Result)) == 1


# Monitors


def test_a_monitor_cannot_report_on_another_licenses_gpu(net: Net) -> None:
    net.phase(monitor(net, "m", "studio"), "starting")
    rogue, client = monitor(net, "rogue", "attic"), net.join("client", features=("power_state",))
    net.submit(client)
    for message in (
        m.PowerState(gpu="studio", state="off"),
        m.Booted(gpu="studio"),
        m.BootResult(gpu="studio", success=False, status="failed", request_id="j1"),
    ):
        net.say(rogue, message)
    assert codes(net, rogue) == ["gpu_taken"] * 3
    assert net.state.gpus["studio"].phase == "starting"
    assert "j1" in net.state.jobs
    assert not [*net.heard(client, m.BootResult), *net.heard(client, m.Booted)]
    assert [state.gpu for state in net.heard(client, m.PowerState)] == []


def test_a_monitor_cannot_register_for_it_while_the_other_is_offline(net: Net) -> None:
    net.leave(monitor(net, "m", "studio"))
    assert codes(net, monitor(net, "rogue", "attic", "studio")) == ["gpu_taken"]
    assert monitor(net, "m", "studio") not in net.closed
    assert "attic" not in net.state.gpus


@pytest.mark.parametrize("names", [("attic",), ()])
def test_no_other_monitor_stops_a_gpu_or_ends_its_jobs_by_asking(net: Net, names: tuple[str, ...]) -> None:
    net.leave(monitor(net, "m", "studio"))
    client = net.join("client")
    old = net.join("worker", owner="w", gpu="studio", url="http://w:1")
    net.say(old, m.Online())
    net.submit(client)
    net.pass_time(100.0)
    rogue = monitor(net, "rogue", *names)
    net.say(rogue, m.TaskQuery(request_id="q", idle=True, drain=True))
    net.say(rogue, m.TaskQuery(request_id="q", gpu="studio", idle=True, drain=True))
    assert "j1" in net.state.jobs
    net.say(client, m.JobDone(request_id="j1"))
    net.pass_time(100.0)
    net.say(rogue, m.TaskQuery(request_id="q", drain=True))
    assert net.state.gpus["studio"].phase == "online"
    net.say(monitor(net, "m", "studio"), m.TaskQuery(request_id="q", drain=True))
    assert net.state.gpus["studio"].phase == "draining"


def test_a_boot_that_fails_at_one_gpu_ends_no_job_while_the_monitor_of_another_has_yet_to_answer(net: Net) -> None:
    other, rogue, client = monitor(net, "m", "studio"), monitor(net, "rogue", "attic"), net.join("client")
    for phase in ("off", "failed"):
        net.phase(other, phase)
        net.now += 5
        net.submit(client, phase)
        net.say(rogue, m.BootResult(request_id=phase, success=False, status="failed", gpu="attic"))
        assert phase in net.state.jobs
    net.now += 5
    net.say(other, m.BootResult(request_id="off", success=False, status="failed", gpu="studio"))
    assert net.state.jobs == {}


def test_a_monitors_key_issued_for_a_gpu_works_for_that_one_only(net: Net) -> None:
    issued(net, ("m", "monitor", ("studio",)), ("w", "worker", ("attic",)))
    assert codes(net, monitor(net, "m", "studio", "attic"))[:1] == ["forbidden"]
    mine = monitor(net, "m", "studio")
    net.phase(mine, "off", "attic")
    assert codes(net, mine) == ["forbidden"]
    net.phase(mine, "off")
    assert {name: gpu.phase for name, gpu in net.state.gpus.items()} == {"studio": "off"}


def test_a_monitor_without_names_is_not_taken_for_the_one_of_another_licenses_gpu_that_is_away(net: Net) -> None:
    mine = monitor(net, "m", "studio")
    net.phase(mine, "booted")
    net.leave(mine)
    monitor(net, "other")
    net.pass_time(net.limits.unwatched)
    assert net.state.gpus["studio"].orphan == UNWATCHED
    net.pass_time(net.limits.abandoned)
    assert net.state.gpus["studio"].account.running_since is None


# How many names, and for how long


def test_one_license_cannot_use_up_the_names() -> None:
    net = Net(gpus=1000, gpus_per_license=200)
    rogue = monitor(net, "rogue", *(f"x{number}" for number in range(100)))
    for number in range(1000):
        net.phase(rogue, "starting", f"y{number}")
    for turn in range(4):
        monitor(net, "rogue", *(f"z{turn}-{number}" for number in range(100)))
    assert len(net.state.gpus) == 200
    assert worker(net, "w") not in net.closed
    assert net.state.gpus["studio"].online


def test_nor_can_unnamed_workers_of_one_license() -> None:
    net = Net(gpus_per_license=3)
    fds = [worker(net, "rogue", None) for _ in range(5)]
    assert sorted(net.state.gpus) == ["gpu", "gpu-2", "gpu-3"]
    assert [codes(net, fd) for fd in fds] == [[], [], [], ["too_many_gpus"], ["too_many_gpus"]]


def test_an_unused_name_is_removed_and_one_that_ran_keeps_its_costs_longer(net: Net) -> None:
    spoken, ran = monitor(net, "m", "attic"), worker(net, "w", "studio")
    net.pass_time(100 * DAY)
    net.leave(spoken)
    net.phase(spoken := monitor(net, "m2", "studio"), "off")
    net.leave(ran)
    net.leave(spoken)
    net.pass_time(29 * DAY)
    assert sorted(net.state.gpus) == ["attic", "studio"]
    net.pass_time(2 * DAY)
    assert sorted(net.state.gpus) == ["studio"]
    net.restart()
    assert sorted(net.state.gpus) == ["studio"]
    assert codes(net, worker(net, "thief"))[:1] == ["gpu_taken"]
    net.pass_time(400 * DAY)
    assert (net.state.gpus, net.state.holders) == ({}, {})


def test_a_full_hub_removes_the_least_recently_used_name() -> None:
    net = Net(gpus=2)
    net.leave(monitor(net, "m", "old"))
    net.now += DAY
    in_use = monitor(net, "m2", "used")
    net.phase(in_use, "starting", "used")
    net.now += DAY
    assert worker(net, "w") not in net.closed
    assert sorted(net.state.gpus) == ["studio", "used"]
    assert codes(net, worker(net, "w2", "third"))[:1] == ["too_many_gpus"]
    assert in_use not in net.closed


def test_names_that_only_a_monitor_gave_make_room_at_a_full_hub_for_the_gpu_of_another_license() -> None:
    net = Net(gpus=3)
    mine, rogue = monitor(net, "m", "attic"), monitor(net, "rogue", "x1", "x2")
    net.phase(mine, "starting", "attic")
    assert codes(net, monitor(net, "rogue2", "x3"))[:1] == ["too_many_gpus"], "a name for another is no gain"
    assert worker(net, "w") not in net.closed
    assert sorted(net.state.gpus) == ["attic", "studio", "x2"]
    issued(net, ("m3", "monitor", ("cellar",)))
    assert monitor(net, "m3", "cellar") not in net.closed
    assert sorted(net.state.gpus) == ["attic", "cellar", "studio"], "the machine of attic has run"
    net.phase(rogue, "off", "x1")
    assert codes(net, rogue) == ["too_many_gpus"]
    assert rogue not in net.closed


def test_a_gpu_with_a_job_is_never_forgotten() -> None:
    net = Net(gpus=1, granted_ttl=1e9, queued_ttl=1e9, silent_ttl=1e9)
    client, first = net.join("client"), worker(net, "w")
    net.submit(client)
    net.leave(first)
    net.submit(client)
    net.pass_time(500 * DAY)
    assert codes(net, worker(net, "w2", "third"))[:1] == ["too_many_gpus"]
    assert worker(net, "w") not in net.closed
    assert net.state.jobs["j1"].gpu == "studio"


# Release


def test_a_released_or_revoked_license_frees_its_names() -> None:
    for event in (f.BookSeen(released=(("w", 1_000_001.0),)), f.Revoked("w")):
        net = Net()
        net.leave(worker(net, "w"))
        net.now += 5
        net.happen(event)
        net.restart()
        assert worker(net, "other") not in net.closed


def test_a_name_that_is_used_again_after_the_release_stays_where_it_is(net: Net) -> None:
    released = f.BookSeen(released=(("w", net.now),))
    net.leave(worker(net, "w"))
    net.happen(released)
    net.now += 1
    net.leave(worker(net, "w"))
    net.happen(released)
    assert codes(net, worker(net, "other"))[:1] == ["gpu_taken"]


def test_peers_without_a_license_hold_no_name_and_take_none() -> None:
    net = Net(open_roles=frozenset({"worker", "monitor"}))
    net.leave(worker(net, "w"))
    net.happen(f.Opened(90))
    net.happen(f.Registering(90, m.Register(role="worker", gpu="studio"), None, None))
    assert codes(net, 90) == ["gpu_taken"]
    net.happen(f.Opened(91))
    net.happen(f.Registering(91, m.Register(role="worker"), None, None))
    net.say(91, m.Online())
    assert net.state.connections[91].gpu == "gpu"
    net.leave(91)
    assert worker(net, "w2", "gpu") not in net.closed
    assert hub.Limits().gpus_per_license == 200
