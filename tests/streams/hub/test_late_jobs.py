"""Jobs of clients that announce `queue`: each waits in the hub until its turn at a GPU comes."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzz.example_counts import BOUNDED
from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.placement.place import PlacePolicy
from wakestream.streams.protocol import messages as m

MONITOR = ("release", "power_age")


def client(net: Net, owner: str = "ann") -> int:
    return net.join("client", owner=owner, features=("queue", "done", "power_state"))


def off(net: Net, *gpus: str) -> dict[str, int]:
    """Monitors of machines that are off."""
    found = {gpu: net.monitor(gpu, *MONITOR) for gpu in gpus}
    for gpu, fd in found.items():
        net.phase(fd, "off", gpu)
    return found


def woken(net: Net, monitors: dict[str, int]) -> list[str]:
    return [gpu for gpu, fd in monitors.items() if net.heard(fd, m.Submit)]


def leases(net: Net, gpu: str) -> list[str]:
    return [*net.state.gpus[gpu].leases]


def done(net: Net, fd: int, id_: str) -> None:
    net.say(fd, m.JobDone(request_id=id_))


def test_one_job_wakes_the_cheapest_machine_and_no_other() -> None:
    net = Net(prices={"a": 2.0, "b": 1.0, "c": 4.0})
    monitors, ann = off(net, "a", "b", "c"), client(net)
    net.reply(m.Offline, ann)
    assert woken(net, monitors) == ["b"]
    for _ in range(20):
        net.pass_time(1.0)
    assert [len(net.heard(fd, m.Submit)) for fd in monitors.values()] == [0, 1, 0]


@pytest.mark.parametrize("back", [True, False])
def test_a_restarted_hub_gives_the_monitor_of_a_cheaper_machine_a_moment_to_come_back(*, back: bool) -> None:
    net = Net(prices={"a": 6.0, "b": 1.0})
    off(net, "a", "b")
    net.restart()
    net.submit(client(net))
    monitors = off(net, "a")
    net.pass_time(1.0)
    assert woken(net, monitors) == []
    assert net.state.planned is not None
    assert net.state.planned.machines["a"][:2] == ("wake", 29.0)
    if back:
        monitors |= off(net, "b")
    net.pass_time(30.0)
    assert woken(net, monitors) == (["b"] if back else ["a"])


def test_a_gpu_is_given_a_job_for_each_slot_and_one_more_and_the_rest_waits() -> None:
    net = Net()
    ann, worker = client(net), net.worker("a")
    answers = [net.submit(ann, f"j{n}") for n in range(5)]
    assert [type(answer) for answer in answers] == [m.Ack, m.Ack, m.JobQueued, m.JobQueued, m.JobQueued]
    assert [answer.position for answer in answers[2:]] == [1, 2, 3]
    assert leases(net, "a") == ["j0", "j1"]
    done(net, ann, "j0")
    assert leases(net, "a") == ["j1", "j2"]
    assert [each.request_id for each in net.heard(ann, m.Ack)] == ["j2"]
    assert [each.request_id for each in net.heard(worker, m.Submit)] == ["j0", "j1", "j2"]


def test_a_second_machine_is_woken_only_when_a_job_would_wait_too_long() -> None:
    net = Net()
    monitors, ann = off(net, "a", "b", "c"), client(net)
    net.worker("a")
    for n in range(3):
        net.submit(ann, f"j{n}")
    net.pass_time(1.0)
    assert woken(net, monitors) == []
    net.submit(ann, "j3")
    net.pass_time(1.0)
    assert woken(net, monitors) == ["b"]


def test_a_machine_that_is_coming_for_nobody_is_called_back() -> None:
    net = Net()
    monitors, ann = off(net, "a"), client(net)
    net.submit(ann, "j1")
    net.phase(monitors["a"], "starting", "a")
    net.say(ann, m.Cancel(request_id="j1"))
    net.pass_time(1.0)
    assert [each.msg for each in net.heard(monitors["a"], m.Release)] == ["no job needs it any more"]
    assert net.use(monitors["a"], gpu="a", drain=True).active_count == 0


def test_a_surplus_machine_stops_after_a_while_and_the_first_one_stays() -> None:
    net = Net(prices={"a": 1.0, "b": 2.0})
    monitors, ann = off(net, "a", "b"), client(net)
    for n in range(9):
        net.submit(ann, f"j{n}")
    net.pass_time(1.0)
    assert woken(net, monitors) == ["a", "b"]
    net.worker("a")
    net.worker("b")
    assert (leases(net, "a"), leases(net, "b")) == (["j0", "j2"], ["j1", "j3"])
    for n in range(9):
        done(net, ann, f"j{n}")
    for _ in range(155):
        net.pass_time(1.0)
    assert net.heard(monitors["a"], m.Release) == []
    assert len(net.heard(monitors["b"], m.Release)) == 2


def test_a_machine_without_capacity_or_that_failed_is_backed_off_and_the_next_one_woken() -> None:
    net = Net(prices={"a": 1.0, "b": 2.0, "c": 3.0})
    monitors, ann = off(net, "a", "b", "c"), client(net)
    net.submit(ann)
    net.phase(monitors["a"], "starting", "a")
    net.phase(monitors["a"], "no_capacity", "a", retry_in=30)
    net.pass_time(1.0)
    assert woken(net, monitors) == ["a", "b"]
    net.phase(monitors["b"], "starting", "b")
    net.say(monitors["b"], m.BootResult(success=False, status="failed", gpu="b", msg="no power"))
    net.phase(monitors["b"], "failed", "b", "no power")
    net.pass_time(1.0)
    assert woken(net, monitors) == ["a", "b", "c"]
    assert net.heard(ann, m.BootResult) == []


def test_licenses_take_turns_and_so_do_the_users_of_one() -> None:
    net = Net()
    ann, more, bob = client(net), client(net), client(net, "bob")
    net.worker("a")
    for n in range(6):
        net.submit(ann, f"a{n}")
    for n in range(2):
        net.submit(more, f"m{n}")
        net.submit(bob, f"b{n}")
    given = []
    for _ in range(10):
        first = leases(net, "a")[0]
        given.append(first)
        net.pass_time(10.0)
        fd = {"a": ann, "m": more, "b": bob}[first[0]]
        done(net, fd, first)
    assert given[:2] == ["a0", "a1"]
    assert sorted(given[2:8]) == ["a2", "a3", "b0", "b1", "m0", "m1"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_license_of_twice_the_weight_gets_twice_the_work_also_while_its_client_is_away(*, restart: bool) -> None:
    net = Net()
    net.happen(f.BookSeen(weights=(("ann", 2),)))
    if restart:
        net.restart()
        net.happen(f.BookSeen(weights=(("ann", 2),)))
    clients = {"a": client(net), "b": client(net, "bob")}
    net.worker("a")
    for n in range(12):
        for name, fd in clients.items():
            net.submit(fd, f"{name}{n}")
    given = Counter[str]()
    for _ in range(12):
        first = leases(net, "a")[0]
        given[first[0]] += 1
        net.pass_time(10.0)
        done(net, clients[first[0]], first)
    assert given == {"a": 8, "b": 4}


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_below_1_is_refused_by_the_name_of_the_field(weight: int) -> None:
    with pytest.raises(ValueError, match='"weights"'):
        f.BookSeen(weights=(("bob", 2), ("ann", weight)))


def test_a_job_whose_gpu_was_lost_keeps_its_place() -> None:
    net = Net()
    monitors, ann = off(net, "a"), client(net)
    worker = net.worker("a")
    for n in range(4):
        net.submit(ann, f"j{n}")
    net.leave(worker)
    net.phase(monitors["a"], "off", "a")
    for _ in range(91):
        net.pass_time(1.0)
    assert leases(net, "a") == []
    net.worker("a")
    assert leases(net, "a") == ["j0", "j1"]


@pytest.mark.parametrize("known", [True, False])
def test_a_restarted_hub_places_a_job_again_whose_worker_does_not_come_back(*, known: bool) -> None:
    net = Net()
    ann = client(net)
    net.worker("a")
    net.submit(ann, "j1")
    net.restart()
    monitors, ann = {"a": net.monitor("a", *MONITOR)}, client(net)
    assert isinstance(net.submit(ann, "j1"), m.Offline)
    assert leases(net, "a") == ["j1"]
    if known:
        net.phase(monitors["a"], "off", "a")
        net.pass_time(1.0)
        assert woken(net, monitors) == ["a"]
    else:
        net.worker("b")
        net.pass_time(31.0)
        assert leases(net, "b") == ["j1"]


def test_a_job_whose_client_is_away_is_given_no_gpu_until_it_is_back() -> None:
    net = Net()
    monitors, ann = off(net, "a"), client(net)
    net.submit(ann, "j1")
    net.leave(ann)
    net.worker("a")
    assert leases(net, "a") == []
    again = client(net)
    assert isinstance(net.submit(again, "j1"), m.Ack)
    assert woken(net, monitors) == ["a"]


def test_a_start_counts_no_more_when_its_monitor_was_away_while_the_machine_stopped() -> None:
    net = Net()
    monitors, ann = off(net, "a"), client(net)
    net.submit(ann, "j1")
    net.phase(monitors["a"], "starting", "a")
    net.worker("a")
    done(net, ann, "j1")
    net.pass_time(40.0)
    net.phase(monitors["a"], "stopping", "a")
    net.leave(monitors["a"])
    again = net.monitor("a", *MONITOR)
    net.phase(again, "unknown", "a")
    net.phase(again, "off", "a")
    net.pass_time(1.0)
    assert net.state.gpus["a"].started(net.now) is None
    assert net.state.planned is None or net.state.planned.machines == {}


def test_the_owner_may_change_the_order_of_its_waiting_jobs_and_of_no_others() -> None:
    net = Net()
    ann, bob = client(net), client(net, "bob")
    net.worker("a")
    for n in range(5):
        net.submit(ann, f"a{n}")
    net.submit(bob, "b0")
    net.say(ann, m.JobOrder(jobs=("b0", "a4", "a2", "a3", "gone")))
    for id_ in ("a0", "a1"):
        done(net, ann, id_)
    assert "a4" in leases(net, "a")
    assert "a2" not in leases(net, "a")


def test_a_gpu_that_is_held_gets_nothing_new_and_the_job_says_why() -> None:
    net = Net()
    ann, _ = client(net), net.worker("a")
    net.submit(ann, "j1")
    net.say(ann, m.GpuAdmin(request_id="h", gpu="a", action="hold"))
    answer = net.reply(m.Offline, ann, "j2")
    assert (answer.phase, "held for maintenance" in (answer.why or "")) == ("paused", True)
    gpu = net.status(ann).gpus[0]
    assert (gpu["phase"], gpu["why"].startswith("it is held for maintenance")) == ("paused", True)
    assert leases(net, "a") == ["j1"]
    net.say(ann, m.GpuAdmin(request_id="r", gpu="a", action="resume"))
    assert leases(net, "a") == ["j1", "j2"]


def test_a_job_that_an_older_client_takes_over_is_no_more_placed_late_once_its_gpu_is_lost() -> None:
    net = Net()
    new, worker = client(net), net.worker("a")
    net.reply(m.Ack, new)
    net.leave(worker)
    net.worker("b")
    assert net.reply(m.Ack, net.join("client", owner="ann")).gpu == "b"
    assert not net.state.jobs["j1"].late


def test_neither_jobs_that_are_granted_at_once_nor_those_that_are_placed_late_starve_the_others() -> None:
    net = Net()
    old, ann, worker = net.join("client", owner="old", features=("done",)), client(net), net.worker("a")
    for n in range(4):
        net.submit(old, f"o{n}")
    assert [type(net.submit(ann, f"j{n}")) for n in range(3)] == [m.Ack, m.Ack, m.JobQueued]
    assert isinstance(net.submit(old, "o4"), m.Ack)
    done(net, old, "o0")
    assert leases(net, "a") == ["o1", "o2", "o3", "j0", "j1", "o4"]
    done(net, ann, "j0")
    assert [each.request_id for each in net.heard(worker, m.Submit)] == ["o0", "o1", "o2", "o3", "j0", "j1", "o4", "j2"]
    net = Net(place=PlacePolicy(ahead=0))
    old, ann, _ = net.join("client", owner="old", features=("done",)), client(net), net.worker("a")
    for n in range(2):
        net.submit(old, f"o{n}")
    assert [type(net.submit(ann, f"j{n}")) for n in range(2)] == [m.Ack, m.JobQueued]


def room(early: int, late: int, slots: int, ahead: int) -> int:
    """How many more jobs a GPU gets in their turn that holds these: `early` ones were granted at once."""
    net = Net(place=PlacePolicy(ahead=ahead))
    old, ann, worker = net.join("client", owner="old", features=("done",)), client(net), net.worker("a")
    net.state.gpus["a"].slots = slots
    for n in range(late):
        net.reply(m.Ack, ann, f"held{n}")
    net.leave(worker)
    for n in range(early):
        net.submit(old, f"early{n}")
    for n in range(9):
        net.submit(ann, f"next{n}")
    net.worker("a")
    return len(leases(net, "a")) - early - late


@BOUNDED
@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3), st.integers(0, 2))
def test_a_gpu_has_never_more_room_for_one_job_more_and_none_beyond_its_places(early, late, slots, ahead):
    late = min(late, slots + ahead)
    left = room(early, late, slots, ahead)
    assert room(early + 1, late, slots, ahead) <= left <= slots + ahead - late
    assert left == 0 or room(early, late + 1, slots, ahead) <= left


def test_jobs_that_are_granted_at_once_are_work_that_a_machine_is_woken_to_share() -> None:
    net = Net()
    monitors = off(net, "a", "b")
    old, ann, _ = net.join("client", owner="old", features=("done",)), client(net), net.worker("a")
    for n in range(20):
        net.submit(old, f"o{n}")
    net.submit(ann)
    net.pass_time(1.0)
    assert (woken(net, monitors)[-1:], net.state.jobs["j1"].gpu) == (["b"], None)


def test_jobs_in_a_snapshot_of_before_there_were_places_have_those_of_their_arrival() -> None:
    net = Net()
    old = net.join("client", owner="ann", features=("done",))
    for n in (9, 8, 7):
        net.submit(old, f"j{n}")
        net.pass_time(1.0)
    net.restart()
    net.rows = [re.sub(rb',"late":[^}]*,"order":[0-9]+', b"", row) for row in net.rows]
    net.restart()
    ann, bob = client(net), client(net, "bob")
    net.submit(bob, "b1")
    for n in (7, 8, 9):
        net.submit(ann, f"j{n}")
    net.worker("a")
    assert leases(net, "a") == ["j9", "b1"]


def test_a_monitor_that_names_no_gpu_and_could_not_start_its_machine_fails_the_job_unless_another_may_do_it() -> None:
    for others in ((), ("b",)):
        net = Net()
        field = net.join("monitor")
        off(net, *others)
        ann = client(net)
        net.submit(ann)
        assert len(net.heard(field, m.Submit)) == 1
        net.say(field, m.BootResult(success=False, status="failed", msg="no power"))
        net.pass_time(1.0)
        assert [each.msg for each in net.heard(ann, m.BootResult)] == ([] if others else ["no power"])
        assert [*net.state.jobs] == (["j1"] if others else [])


def test_jobs_that_go_on_waiting_hear_at_once_that_a_gpu_is_on() -> None:
    net = Net()
    off(net, "a")
    ann = client(net)
    for n in range(4):
        net.submit(ann, f"j{n}")
    net.sent.clear()
    net.worker("a")
    assert [each.request_id for each in net.heard(ann, m.JobQueued)] == ["j2", "j3"]


def test_a_waiting_job_is_told_its_place_again() -> None:
    net = Net()
    ann, _ = client(net), net.worker("a")
    for n in range(5):
        net.submit(ann, f"j{n}")
    net.sent.clear()
    for _ in range(10):
        net.pass_time(1.0)
    told = {each.request_id: (each.position, each.reason) for each in net.heard(ann, m.JobQueued)}
    assert told == {f"j{n + 1}": (n, "at work: a") for n in range(1, 4)}


def test_a_gpu_comes_for_jobs_that_wait_until_it_is_stopped() -> None:
    net = Net()
    ann, _, monitor = client(net), net.worker("a"), net.monitor("b", "release")
    net.phase(monitor, "off", "b")
    for n in range(30):
        net.submit(ann, f"j{n}")
    for _ in range(10):
        net.pass_time(10.0)
    assert "at work: a; b is started for jobs that wait" in {each.reason for each in net.heard(ann, m.JobQueued)}
    net.phase(monitor, "stopping", "b")
    net.pass_time(1.0)
    assert net.state.planned is None or "b" not in net.state.planned.machines


def test_a_job_at_work_keeps_its_gpu_when_hub_and_client_are_back_before_the_worker() -> None:
    net = Net()
    ann, bob = client(net), client(net, "bob")
    net.worker("a")
    for n in range(2):
        net.submit(ann, f"a{n}")
    net.submit(bob, "b0")
    net.restart()
    ann, bob = client(net), client(net, "bob")
    assert isinstance(net.submit(bob, "b0"), m.Offline)
    assert isinstance(net.submit(ann, "a0"), m.Offline)
    net.worker("a")
    assert leases(net, "a") == ["a0", "a1"]
    assert [each.request_id for each in net.heard(ann, m.Ack)] == ["a0"]
