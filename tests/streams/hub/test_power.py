"""What the hub makes of what monitors, workers and connections say of a GPU, one case after the other."""

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import hub
from wakestream.streams.protocol import messages as m

UNSEEN = ("gpu\x1b[31m", "g\npu", "g\tpu", "\x9b", "\u202eupg", "gpu\u200f", "gpu\u200b", "gpu\u2028", " ", "gpu ")
"""Names of which something is not seen, or steers what shows them."""


def phases(net: Net) -> dict[str, str]:
    return {name: gpu.phase for name, gpu in net.state.gpus.items()}


def test_a_worker_that_leaves_a_machine_which_is_stopped_is_no_loss(net: Net) -> None:
    worker, monitor = net.worker(), net.monitor()
    net.phase(monitor, "stopping")
    net.leave(worker)
    assert phases(net) == {"studio": "stopping"}


def test_a_failed_boot_is_the_state_of_an_offline_gpu_with_its_reason(net: Net) -> None:
    monitor = net.monitor("attic")
    net.phase(monitor, "starting", "attic")
    net.say(monitor, m.BootResult(status="failed", msg="no driver", gpu="attic"))
    assert phases(net) == {"attic": "failed"}
    assert net.state.gpus["attic"].cause == "no driver"
    net.worker("attic")
    net.say(monitor, m.BootResult(status="failed", gpu="attic"))
    assert phases(net) == {"attic": "online"}


def told(net: Net, client: int) -> list[m.PowerState]:
    return net.heard(client, m.PowerState)


def test_clients_get_the_state_of_each_gpu_on_register_or_its_changes_as_they_announced(net: Net) -> None:
    monitor = net.monitor()
    net.phase(monitor, "starting")
    features = ("power_state", "power_now"), ("power_now",), ("power_state",), ()
    both, present, changes, neither = (net.join("client", features=announced) for announced in features)
    before = [m.PowerState(gpu="studio", state="starting", present=True)]
    assert [told(net, client) for client in (both, present, changes, neither)] == [before, before, [], []]
    net.phase(monitor, "booted")
    change = [m.PowerState(gpu="studio", state="booted")]
    assert [told(net, client) for client in (both, present, changes, neither)] == [
        before + change, before, change, [],
    ]  # fmt: skip
    net.phase(monitor, "dancing")
    assert [error.code for error in net.heard(monitor, m.Error)] == ["bad_request"]


def test_a_booted_gpu_is_not_online_and_an_online_gpu_is_not_booted(net: Net) -> None:
    monitor = net.monitor()
    net.phase(monitor, "starting")
    net.say(monitor, m.Booted(gpu="studio", msg="the machine is up"))
    assert (phases(net), net.state.gpus["studio"].cause) == ({"studio": "booted"}, "the machine is up")
    net.worker()
    net.say(monitor, m.Booted(gpu="studio"))
    assert phases(net) == {"studio": "online"}


def test_a_monitor_is_believed_that_a_gpu_is_online_only_when_its_worker_is_here(net: Net) -> None:
    monitor = net.monitor()
    net.phase(monitor, "booted")
    net.phase(monitor, "online")
    assert phases(net) == {"studio": "booted"}
    worker = net.worker()
    net.phase(monitor, "draining")
    net.phase(monitor, "online")
    assert phases(net) == {"studio": "online"}
    net.leave(worker)
    net.phase(monitor, "online")
    assert phases(net) == {"studio": "booted"}


def test_a_stop_that_was_announced_and_never_began_is_called_off_after_its_time() -> None:
    net = Net(draining=60.0)
    net.worker()
    monitor, client = net.monitor(), net.join("client")
    net.pass_time(1000.0)
    net.say(monitor, m.TaskQuery(request_id="q", gpu="studio", drain=True))
    assert phases(net) == {"studio": "draining"}
    net.submit(client)
    net.pass_time(60.0)
    assert (phases(net), net.heard(client, m.Ack)) == ({"studio": "draining"}, [])
    net.pass_time(1.0)
    assert phases(net) == {"studio": "online"}
    assert [ack.request_id for ack in net.heard(client, m.Ack)] == ["j1"]


def test_nor_is_it_called_off_for_a_worker_that_has_gone() -> None:
    net = Net(draining=60.0)
    worker, monitor = net.worker(), net.monitor()
    net.pass_time(1000.0)
    net.say(monitor, m.TaskQuery(request_id="q", gpu="studio", drain=True))
    net.leave(worker)
    net.pass_time(100.0)
    assert phases(net) == {"studio": "draining"}


def test_a_stop_query_covers_the_monitors_gpu_and_unmonitored_ones() -> None:
    net = Net(recent=0.0)
    net.worker("studio")
    client = net.join("client")
    net.submit(client)
    studio, attic = net.monitor("studio"), net.monitor("attic")
    net.worker("attic")

    def held(fd: int, gpu: str) -> int:
        return net.use(fd, gpu=gpu).active_count

    assert (held(studio, "studio"), held(attic, "attic")) == (1, 0)
    net.leave(studio)  # the GPU that is at work may be the other's machine under another name
    assert held(attic, "attic") == 1


@pytest.mark.parametrize(("kind", "limit"), [("status", 3.0), ("boot", 35 * 60.0)])
def test_a_question_that_no_monitor_answers_is_open_for_its_time(net: Net, kind: str, limit: float) -> None:
    net.monitor()
    client = net.join("client", features=("done",))
    net.say(client, m.StatusQuery(request_id="q") if kind == "status" else m.Boot(request_id="q"))
    net.pass_time(limit)
    assert list(net.state.asked) == [(kind, "q")]
    net.pass_time(0.1)
    assert not net.state.asked
    assert [answer.source for answer in net.heard(client, m.StatusResponse)] == ["hub"] * (kind == "status")


def test_a_query_ends_with_its_connection(net: Net) -> None:
    net.monitor()
    client = net.join("client")
    net.say(client, m.Boot(request_id="q"))
    net.pass_time(1.0)
    assert net.state.asked
    net.leave(client)
    net.pass_time(1.0)
    assert not net.state.asked


def test_the_answer_to_a_boot_goes_to_who_asked_and_success_also_to_the_job_that_caused_it(net: Net) -> None:
    monitor, asker, waiting = net.monitor(), net.join("client", owner="a"), net.join("client", owner="b")
    net.say(asker, m.Boot(request_id="b"))
    net.submit(waiting, "j1")
    net.say(monitor, m.BootResult(request_id="b", success=True, status="running", gpu="studio"))
    net.say(monitor, m.BootResult(request_id="j1", success=True, status="running", gpu="studio"))
    assert [told.request_id for told in net.heard(asker, m.BootResult)] == ["b"]
    assert [told.request_id for told in net.heard(waiting, m.BootResult)] == ["j1"]
    assert (list(net.state.jobs), net.state.asked) == (["j1"], {})


@pytest.mark.parametrize(
    ("name", "taken"),
    [("", False), ("g" * 100, True), ("g" * 101, False), ("显卡 1", True), *((name, False) for name in UNSEEN)],
)
def test_a_gpu_has_a_name_of_up_to_100_printable_characters(net: Net, name: str, taken: bool) -> None:
    monitor = net.monitor("studio")
    net.phase(monitor, "starting", name)
    assert (name in net.state.gpus, bool(net.heard(monitor, m.Error))) == (taken, not taken)


def test_the_number_of_gpus_is_limited_and_known_ones_continue() -> None:
    net = Net(gpus=2)
    monitor = net.monitor("one")
    for gpu in ("one", "two", "three"):
        net.phase(monitor, "starting", gpu)
    net.phase(monitor, "booted", "two")
    assert phases(net) == {"one": "starting", "two": "booted"}
    assert hub.HubState().limits.gpus == 1000


def test_a_late_monitor_that_names_gpus_gets_the_online_ones(net: Net) -> None:
    net.worker()
    ours, field = net.monitor("attic"), net.join("monitor")
    assert [online.gpu for online in net.heard(ours, m.Online)] == ["studio"]
    assert net.heard(field, m.Online) == []


def ran(net: Net) -> float:
    """Seconds that the GPU was on, as the ledger has it."""
    return net.state.gpus["studio"].account.ran(0.0, net.now)


def test_a_stop_that_the_monitor_could_not_report_is_booked_when_it_was(net: Net) -> None:
    monitor, client = net.monitor("studio", "power_age"), net.join("client", features=("power_state",))
    net.phase(monitor, "starting")
    net.pass_time(100)
    worker = net.worker()
    net.submit(client)
    net.pass_time(200)
    net.leave(monitor)
    net.pass_time(90)
    net.leave(worker)
    net.pass_time(151)
    monitor = net.monitor("studio", "power_age")
    net.phase(monitor, "off", age=155)
    assert ran(net) == 386
    assert told(net, client)[-1].age is None
    net.say(client, m.JobDone(request_id="j1"))
    assert [used.gpus for used in net.state.usage.jobs] == [(("studio", 286.0),)]


def test_a_night_without_the_hub_in_which_the_machine_was_off_is_no_use(net: Net) -> None:
    monitor = net.monitor("studio", "power_age")
    net.phase(monitor, "starting")
    net.worker()
    net.pass_time(600)
    net.now += 36_000
    net.restart()
    monitor = net.monitor("studio", "power_age")
    net.phase(monitor, "off", age=35_000.0)
    net.phase(monitor, "booted", age=300.0)
    net.pass_time(10)
    assert ran(net) == 600 + 1000 + 300 + 10


def test_a_machine_that_was_on_before_its_monitor_could_say_so_is_booked_from_then_on(net: Net) -> None:
    monitor = net.monitor("studio", "power_age")
    net.phase(monitor, "off")
    net.leave(monitor)
    net.pass_time(300)
    monitor = net.monitor("studio", "power_age")
    net.phase(monitor, "booted", age=200)
    assert ran(net) == 200
    net.worker()
    net.pass_time(10)
    net.phase(monitor, "online", age=220)
    assert ran(net) == 220
    net.phase(monitor, "online", age=900)
    assert ran(net) == 310, "it was off before"


def test_a_gpu_of_which_nothing_is_heard_costs_until_the_last_sign_of_life(net: Net) -> None:
    monitor = net.monitor("studio", "power_age")
    net.phase(monitor, "starting")
    worker = net.worker()
    net.pass_time(100)
    net.leave(monitor)
    net.pass_time(100)
    net.leave(worker)
    net.pass_time(1)
    net.pass_time(3599)
    net.restart()
    assert ran(net) == 3800, "they may come back"
    net.pass_time(1)
    assert (ran(net), phases(net)) == (201, {"studio": "unknown"})
    net.pass_time(10_000)
    monitor = net.monitor("studio", "power_age")
    net.phase(monitor, "online", age=10_000)
    assert ran(net) == 10_201, "its monitor says that it was on"
