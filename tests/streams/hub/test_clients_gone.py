"""A client ends without a word: its worker is the witness, and no GPU is held for it."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m

OURS = ("done", "released", "queue", "capability", "hub_status")
WORKER = ("range", "inputs", "capability", "done", "job_work", "job_state")


@dataclass
class Worker:
    """What a worker knows of the job: "" until the client has come. It tells the hub, as far as that listens."""

    net: Net
    word: str = ""
    seconds: float = 0.0
    fd: int | None = None

    def comes(self) -> None:
        self.fd = self.net.worker(features=WORKER)
        for batch in self.net.heard(self.fd, m.DispatchBatch):
            for job in batch.jobs:
                self.tells(job["request_id"])

    def goes(self) -> None:
        if self.fd in self.net.state.connections:
            self.net.leave(self.fd)
        self.fd = None

    def tells(self, id_: str = "j1") -> None:
        if self.fd in self.net.state.connections:
            self.net.say(self.fd, m.JobState(request_id=id_, state=self.word or "unknown", seconds=self.seconds))

    def turns(self, word: str, seconds: float = 0.0) -> None:
        self.word, self.seconds = word, seconds
        self.tells()


class Scene:
    """A worker with one place, and the client of a job."""

    def __init__(self, **limits: Any) -> None:
        self.net = Net(**limits)
        self.worker = Worker(self.net)
        self.worker.comes()
        self.client = self.net.join("client", features=OURS)
        self.net.reply(m.Ack, self.client)
        self.worker.tells()

    def held(self) -> bool:
        return "j1" in self.net.state.jobs

    def runs(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.net.pass_time(1.0)


@pytest.mark.parametrize("word", ["done", "failed", "cancelled"])
def test_the_slot_of_a_job_that_is_over_at_its_worker_is_free_10_s_after_the_client_is_gone(word: str) -> None:
    scene = Scene()
    scene.worker.turns("open")
    scene.net.leave(scene.client)
    scene.runs(600)
    assert scene.held()
    scene.worker.turns(word)
    scene.runs(3)
    assert scene.held()  # its client may come back
    scene.runs(7)
    assert not scene.held()
    scene = Scene()
    scene.worker.turns(word)
    scene.runs(600)
    assert scene.held()  # its client is here
    scene.net.leave(scene.client)
    scene.runs(10)
    assert not scene.held()


def test_a_job_that_was_granted_and_never_reached_its_worker_is_free_a_minute_after_the_client_is_gone() -> None:
    scene = Scene()
    scene.runs(600)
    scene.net.leave(scene.client)
    scene.runs(55)
    assert scene.held()
    scene.runs(10)
    assert not scene.held()
    assert [told.request_id for told in scene.net.heard(scene.worker.fd or 0, m.Cancel)] == ["j1"]


def test_a_client_that_comes_back_in_time_keeps_its_job_and_one_that_comes_late_fetches_the_result() -> None:
    scene = Scene()
    net = scene.net
    scene.worker.turns("done")
    net.leave(scene.client)
    scene.runs(4)
    back = net.join("client", features=OURS)
    assert net.reply(m.Ack, back).gpu == "studio"
    scene.runs(60)
    assert scene.held()
    net.leave(back)
    scene.runs(20)
    assert not scene.held()
    other = net.join("client", owner="other", features=OURS)
    assert isinstance(net.submit(other, "j2"), m.Ack)
    back = net.join("client", features=OURS)
    ack = net.reply(m.Ack, back)
    assert (ack.gpu, ack.url, ack.capability is not None) == ("studio", "http://w:1", True)
    assert [*net.state.gpus["studio"].leases] == ["j2"]  # without a new grant
    assert net.heard(scene.worker.fd or 0, m.Submit)[-1].request_id == "j1"  # so that its capability counts again
    net.say(back, m.JobDone(request_id="j1"))
    assert net.heard(back, m.JobReleased) == [m.JobReleased(request_id="j1")]
    net.say(other, m.JobDone(request_id="j2"))
    net.reply(m.Ack, back)
    assert scene.held()  # it has the result, so this is another one


def test_a_finished_job_of_one_license_is_nothing_to_another_one() -> None:
    scene = Scene()
    scene.worker.turns("done")
    scene.net.leave(scene.client)
    scene.runs(10)
    scene.net.reply(m.Ack, scene.net.join("client", owner="other", features=OURS))
    assert scene.net.state.jobs["j1"].owner == "other"


def test_a_job_of_a_worker_that_does_not_say_it_is_held_as_before() -> None:
    net = Net()
    net.worker(features=WORKER[:-1])
    client = net.join("client", features=OURS)
    net.reply(m.Ack, client)
    net.leave(client)
    net.pass_time(net.limits.granted_ttl - 1)
    assert "j1" in net.state.jobs
    net.pass_time(2.0)
    assert "j1" not in net.state.jobs


def test_the_work_of_a_job_ends_with_its_task_also_if_the_hub_learns_of_it_much_later() -> None:
    scene = Scene()
    scene.worker.turns("open")
    scene.net.say(scene.worker.fd or 0, m.JobWork(request_id="j1", seconds=0.0))
    scene.runs(30)
    scene.worker.goes()
    scene.net.leave(scene.client)
    scene.worker.word, scene.worker.seconds = "done", 40.0
    scene.runs(500)
    scene.worker.comes()  # another run of it: it does not say again that the work ended
    scene.runs(10)
    (used,) = scene.net.state.usage.jobs
    assert dict(used.gpus) == {"studio": 40.0}
    (said,) = (scene.net.status(scene.net.join("client", features=OURS), costs=True).costs or {})["jobs"]
    assert said["unsaid"]


def test_the_wait_of_the_next_job_is_not_counted_from_a_client_that_is_gone() -> None:
    scene = Scene()
    net = scene.net
    scene.runs(40)
    scene.worker.turns("done", 40.0)
    net.leave(scene.client)
    net.reply(m.Ack, net.join("client", owner="other", features=OURS), "j2")  # ahead of its turn
    third = net.join("client", owner="third", features=OURS)
    net.reply(m.JobQueued, third, "j3")
    scene.runs(10)
    assert net.heard(third, m.Ack)
    waits = net.join("client", owner="fourth", features=OURS)
    net.reply(m.JobQueued, waits, "j4")
    scene.runs(20)
    eta = net.heard(waits, m.JobQueued)[-1].eta_s
    assert eta is not None
    assert 2 * 40.0 - 27.0 <= eta <= 2 * 40.0 - 20.0  # the two before it, of which the first began 20 s ago


POINTS = ("granted", "rendering", "rendered", "failed", "said")
HUBS = ("stays", "away", "restarts")
WORKERS = ("stays", "restarts", "forgets", "away")


@pytest.mark.parametrize(("point", "hub", "worker"), [*product(POINTS, HUBS, WORKERS)])
def test_a_slot_is_free_or_its_job_has_a_client_or_a_running_task(point: str, hub: str, worker: str) -> None:
    """A client ends at each point of its job, with each kind of hub and of worker."""
    scene = Scene()
    net, at_worker = scene.net, scene.worker
    words = {"granted": "", "rendering": "open", "rendered": "done", "failed": "failed", "said": "done"}
    if hub == "away":  # nobody can tell it anything
        at_worker.fd = None
        at_worker.turns(words[point], 5.0)
        net.now += 600.0
        net.restart()
    else:
        at_worker.turns(words[point], 5.0)
        if point == "said":
            net.say(scene.client, m.JobDone(request_id="j1"))
        net.leave(scene.client)
    if hub == "restarts":
        scene.runs(2)
        net.restart()
        at_worker.fd = None
    if worker != "stays":
        at_worker.goes()
        at_worker.word = "" if worker == "forgets" else at_worker.word
        scene.runs(30)
    if at_worker.fd is None and worker != "away":
        at_worker.comes()
    if point == "rendering" and worker in ("stays", "restarts"):
        scene.runs(300)
        assert scene.held()  # a running task
        at_worker.turns("done", 300.0)
    scene.runs(605 if worker == "away" else 65 if point == "granted" or worker == "forgets" else 10)
    assert "j1" not in net.state.gpus["studio"].leases
