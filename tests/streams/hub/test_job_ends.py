"""How jobs end at the hub, what is said of that, and what is kept of it for how long."""

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m

OURS = ("done", "released")


def test_each_end_of_a_job_is_confirmed_on_request(net: Net) -> None:
    net.worker()
    ours, field = net.join("client", owner="a", features=OURS), net.join("client", owner="b")
    for fd, job in ((ours, "done"), (ours, "cancelled"), (field, "theirs")):
        net.submit(fd, job)
    for _ in range(2):
        net.say(ours, m.JobDone(request_id="done"))
    net.say(ours, m.Cancel(request_id="cancelled"))
    net.say(field, m.JobDone(request_id="theirs"))
    assert [told.request_id for told in net.heard(ours, m.JobReleased)] == ["done", "done", "cancelled"]
    assert net.heard(field, m.JobReleased) == []
    assert net.state.jobs == {}
    net.say(ours, m.Cancel(request_id="cancelled"))
    assert [error.code for error in net.heard(ours, m.Error)] == ["unknown_job"]


def test_queued_jobs_get_the_most_promising_gpus_state(net: Net) -> None:
    client, one, two = net.join("client"), net.monitor("one"), net.monitor("two")

    def phase() -> str | None:
        reply = net.reply(m.Offline, client)
        return reply.phase

    net.phase(one, "no_capacity", "one")
    net.phase(two, "starting", "two")
    assert phase() == "booting"
    net.phase(two, "booted", "two")
    assert phase() == "booted"
    net.leave(one)
    net.leave(two)
    assert phase() == "no_monitor"


def test_a_result_for_an_absent_client_is_stored_for_a_time_and_sent_once() -> None:
    net = Net(granted_ttl=3600.0)
    worker, field = net.worker(), net.join("client", owner="a")
    for job in ("early", "late"):
        net.submit(field, job)
    net.leave(field)
    net.say(worker, m.Result(request_id="early"))
    net.pass_time(3000.0)
    net.say(worker, m.Result(request_id="late"))
    net.pass_time(3600.0)
    back = net.join("client", owner="a")
    assert [told.request_id for told in net.heard(back, m.Result)] == ["early", "late"]
    net.leave(back)
    assert net.heard(net.join("client", owner="a"), m.Result) == []
    net.submit(third := net.join("client", owner="a"), "third")
    net.leave(third)
    net.say(worker, m.Result(request_id="third"))
    net.pass_time(3600.1)
    assert net.state.kept == {}


def test_a_job_is_as_large_as_the_hub_passes_on_in_one_frame_and_no_larger() -> None:
    net = Net(batch=1000)
    client = net.join("client")

    def refused(size: int) -> bool:
        return isinstance(net.submit(client, f"j{size}", {"note": "x" * size}), m.Error)

    sizes = [size for size in range(1000) if refused(size)]
    assert sizes == list(range(sizes[0], 1000))
    assert 700 < sizes[0] < 1000
    for id_ in list(net.state.jobs):
        net.say(client, m.Cancel(request_id=id_))
    for number in range(5):
        net.submit(client, f"k{number}", {"note": "x" * (sizes[0] - 20)})
    worker = net.worker()
    batches = net.heard(worker, m.DispatchBatch)
    assert [job["request_id"] for batch in batches for job in batch.jobs] == [f"k{number}" for number in range(5)]
    assert len(batches) == 5
