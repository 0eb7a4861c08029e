"""The hub remembers when jobs arrived and how long they took, for `wakestream plan`."""

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import hub
from wakestream.streams.hub.needs import ANY_GPU
from wakestream.streams.protocol import messages as m

DAY = 86_400


def ask(net: Net, fd: int, day: int = 0, skip: int = 0) -> m.HubStatus:
    return net.status(fd, history=(day, skip))


def render(net: Net, jobs: int) -> None:
    """Jobs of 60 s, one after another."""
    client, worker = net.join("client", features=("done",)), net.worker()
    for n in range(jobs):
        net.submit(client, f"j{n}")
        net.now += 60.0
        net.say(client, m.JobDone(request_id=f"j{n}"))
    net.leave(worker)


def test_an_admin_is_told_the_arrival_and_the_work_of_each_job_also_after_a_restart() -> None:
    net = Net(now=20_000.0 * DAY + 100)
    render(net, 2)
    net.restart()
    history = ask(net, net.join("admin", features=("hub_status",))).history
    assert history is not None
    assert history["days"] == [[20_000, [100, 60, 0, 160, 60, 0]]]
    assert history["fits"] == [["studio"]]
    assert history["place"]["patience"] == net.limits.place.patience
    assert ask(net, net.join("client", features=("hub_status",))).history is None


def test_the_history_has_the_share_of_failed_boots_and_the_limits_of_the_hub() -> None:
    net = Net(budgets={"": (5.0, None)}, zone="Asia/Tokyo")
    monitor = net.monitor("studio", "power_age")
    for _ in range(3):
        net.phase(monitor, "starting", "studio")
        net.say(monitor, m.BootResult(success=False, status="failed", gpu="studio", msg="no power"))
        net.phase(monitor, "failed", "studio", "no power")
    net.submit(net.join("client", features=("done",)))
    net.phase(monitor, "starting", "studio")
    net.leave(net.worker())
    net.restart()
    history = ask(net, net.join("admin", features=("hub_status",))).history or {}
    assert history["gpus"]["studio"]["failed"] == 0.75
    assert (history["budgets"], history["zone"]) == ({"": (5.0, None)}, "Asia/Tokyo")


def test_a_long_history_is_told_in_parts() -> None:
    net = Net(now=20_000.0 * DAY, batch=6000)
    for n in range(1500):
        net.state.usage.arrived(ANY_GPU, 20_000 + n // 600, n, 60)
    admin, found, at, parts = net.join("admin", features=("hub_status",)), 0, (0, 0), 0
    while at is not None:
        history = ask(net, admin, *at).history or {}
        found += sum(len(flat) // 3 for _, flat in history["days"])
        at, parts = history.get("next"), parts + 1
    assert (found, parts > 1) == (1500, True)


def test_a_thousand_jobs_take_15_kb_of_the_snapshot_and_old_days_are_forgotten() -> None:
    state = hub.HubState()
    before = sum(map(len, hub.DECIDER.snapshot(state)))
    for n in range(1000):
        state.usage.arrived(ANY_GPU, 20_000, 80_000 + n, 1000)
    assert sum(map(len, hub.DECIDER.snapshot(state))) - before < 15_000
    for day in range(500):
        state.usage.arrived(ANY_GPU, 20_000 + day, 1.0, 60.0)
    assert (len(state.usage.history), min(state.usage.history)) == (400, 20_100)
