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
def test_an_end_interrupted_by_a_fault_is_sent_again(world: World, ends: str, breaks: str) -> None:
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


def test_an_end_that_the_hub_did_not_store_is_sent_again(world: World) -> None:
    online(world)
    daemon = world.daemons[0]
    daemon.cancel("job")
    assert daemon.wire is not None
    world.deliver(daemon.wire.fd, up=True)
    assert world.pending
    world.kill_hub()
    world.calm()
    assert not world.hub.jobs


def test_a_killed_monitor_does_not_repeat_an_invisible_start(world: World) -> None:
    world.daemons[0].submit("job")
    for _ in range(5):
        world.one_good_second()
    assert (world.provider.starts, world.provider.state) == (1, "stopped")
    world.watch.kill()
    world.calm()
    assert world.provider.starts == 1


def test_an_older_inspect_does_not_override_the_hub(world: World) -> None:
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


def test_a_disconnected_monitor_stops_no_machine_in_use(world: World) -> None:
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


def test_a_long_silent_job_keeps_the_gpu_on(world: World) -> None:
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


def test_a_stalled_monitor_does_not_act_on_an_old_answer(world: World) -> None:
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
def test_a_clock_change_during_a_drain_grants_nothing_that_is_lost(world: World, by: float) -> None:
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


def test_a_daemon_killed_after_a_clock_change_sends_the_end_again(world: World) -> None:
    online(world)
    daemon = world.daemons[0]
    daemon.cancel("job")
    world.clock_steps(86_400.0)
    daemon.kill()
    world.calm()
    assert not world.hub.jobs
