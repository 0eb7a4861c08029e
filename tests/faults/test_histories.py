"""Histories that once broke a promise, or would: the model's world, step by step."""

import pytest

from tests.support.faults.model_world import World
from wakestream.streams.protocol import messages as m


@pytest.fixture
def world() -> World:
    """Everybody is connected, the GPU is off."""
    world = World()
    for peer in world.peers:
        peer.connect()
    world.settle()
    return world


def online(world: World) -> None:
    """The GPU was woken for a job, which holds it."""
    world.daemons[0].submit("job")
    for _ in range(60):
        world.one_good_second(work=False)
    assert world.leases == {"job"}


@pytest.mark.parametrize("ends", ["cancel", "done"])
@pytest.mark.parametrize("breaks", ["the wire", "the hub", "the daemon"])
def test_an_end_that_was_on_its_way_when_something_broke_is_said_again(world: World, ends: str, breaks: str) -> None:
    online(world)
    daemon = world.daemons[0]
    if ends == "cancel":
        daemon.cancel("job")
    else:
        daemon.work("job")
        daemon.work("job")
    assert daemon.ends == {"job": "cancelled" if ends == "cancel" else "done"}
    {"the wire": daemon.cut, "the hub": world.kill_hub, "the daemon": daemon.kill}[breaks]()
    world.calm()
    assert not world.hub.jobs


def test_an_end_that_the_hub_had_heard_and_not_kept_is_said_again(world: World) -> None:
    online(world)
    daemon = world.daemons[0]
    daemon.cancel("job")
    assert daemon.wire is not None
    world.deliver(daemon.wire.fd, up=True)
    assert world.pending
    world.kill_hub()
    world.calm()
    assert not world.hub.jobs


def test_a_monitor_that_was_killed_after_a_start_that_does_not_show_yet_makes_no_second_one(world: World) -> None:
    world.daemons[0].submit("job")
    for _ in range(5):
        world.one_good_second()
    assert (world.provider.starts, world.provider.state) == (1, "stopped")
    world.watch.kill()
    world.calm()
    assert world.provider.starts == 1


def test_a_look_that_is_older_than_the_word_of_the_hub_does_not_take_that_back(world: World) -> None:
    world.daemons[0].submit("job")
    for _ in range(2):
        world.one_good_second(work=False)
    assert world.watch.calls
    world.passes(35.0, watched=False)  # the machine boots meanwhile, and its worker says so
    for _ in range(400):
        world.one_good_second(work=False)
    assert world.watch.machine.state == "online"
    assert world.provider.stops == 0
    world.calm()


def test_a_monitor_that_is_cut_off_from_the_hub_stops_no_machine_that_others_may_use(world: World) -> None:
    world.daemons[0].submit("job")
    for _ in range(2):
        world.one_good_second(work=False)
    world.watch.cut()  # it will not hear that the worker is online
    for _ in range(400):
        for peer in world.peers:
            if peer is not world.watch:
                peer.connect()
        world.settle()
        while world.watch.calls:
            world.watch.answer()
        world.passes(1.0)
    assert world.leases == {"job"}
    assert world.provider.stops == 0
    world.calm()


def test_a_job_that_works_for_long_keeps_the_gpu_on_though_nobody_says_a_word(world: World) -> None:
    online(world)
    for _ in range(600):
        world.one_good_second(work=False)
    assert world.provider.stops == 0
    world.calm()


def asked_whether_anybody_holds_it(world: World) -> None:
    """No job holds it: the monitor drains the GPU, and the hub's answer has been sent but has not arrived."""
    online(world)
    for _ in range(3):
        world.one_good_second()
    for drain in (None, True):
        while not any(isinstance(said, m.TaskQuery) and said.drain is drain for said in world.watch.wire.up):
            world.watch.answer()
            world.passes(1.0)
        all_arrives(world, world.watch.wire.fd)
        while drain is None and world.watch.wire.down:
            world.deliver(world.watch.wire.fd, up=False)


def all_arrives(world: World, fd: int) -> None:
    """At the hub, from this connection; and it keeps what that leads to."""
    while world.wires[fd].up:
        world.deliver(fd, up=True)
    world.commit()


def test_a_monitor_that_stood_still_over_the_hubs_answer_stops_nothing(world: World) -> None:
    asked_whether_anybody_holds_it(world)
    world.passes(70.0, watched=False)
    world.daemons[1].submit("late")
    all_arrives(world, world.daemons[1].wire.fd)
    assert world.leases == {"late"}
    world.settle()
    assert world.provider.stops == 0
    world.calm()
    assert world.provider.starts == 1


@pytest.mark.parametrize("by", [3600.0, 86_400.0, -86_400.0])
def test_a_clock_that_is_set_while_the_gpu_drains_gives_it_to_nobody_who_then_loses_it(world: World, by: float) -> None:
    asked_whether_anybody_holds_it(world)
    world.daemons[1].submit("late")
    while world.daemons[1].wire.up:
        world.deliver(world.daemons[1].wire.fd, up=True)
    world.clock_steps(by)
    world.passes(2.0)
    world.settle()
    assert world.leases == set()
    world.calm()
    assert world.daemons[1].ends == {"late": "done"}


def test_an_end_is_said_again_by_a_daemon_whose_clock_was_set_before_it_was_killed(world: World) -> None:
    online(world)
    daemon = world.daemons[0]
    daemon.cancel("job")
    world.clock_steps(86_400.0)
    daemon.kill()
    world.calm()
    assert not world.hub.jobs
