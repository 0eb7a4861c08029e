"""A GPU whose worker begins no tasks: it is granted nothing and holds nothing, and its jobs wait with the reason."""

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub.state import Limits
from wakestream.streams.protocol import messages as m

FEATURE = m.WorkerState.FEATURE
FULL = "the worker's disk is full"
MISSING = "ComfyUI is not ready: node X is missing"


class Scene(Net):
    """A client, a worker and a monitor that know the frame."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = self.monitor()
        self.pc = self.join("client", features=("grant", "kinds", FEATURE))
        self.gpu = self.worker(features=("range", FEATURE))
        self.says(self.gpu, "ready")

    def says(self, worker: int, state: str, reason: str | None = None) -> None:
        self.say(worker, m.WorkerState(gpu="studio", state=state, reason=reason))

    def may_stop(self) -> bool:
        self.now += self.limits.recent + 1
        self.say(self.watch, m.TaskQuery(request_id="q", gpu="studio", drain=True))
        return self.heard(self.watch, m.TaskQueryResponse)[-1].active_count == 0


@pytest.fixture
def net() -> Scene:
    return Scene()


@pytest.mark.parametrize("state", ["paused", "not_ready"])
def test_its_jobs_wait_with_the_reason_and_its_machine_may_stop(net: Scene, state: str) -> None:
    assert isinstance(net.submit(net.pc, "held"), m.Ack)
    net.says(net.gpu, state, FULL)
    assert net.heard(net.pc, m.WorkerState) == [m.WorkerState(gpu="studio", state=state, reason=FULL)]
    for id_ in ("held", "new"):
        waits = net.reply(m.Offline, net.pc, id_)
        assert (waits.phase, FULL in (waits.why or ""), FULL in (waits.msg or "")) == (state, True, True)
    assert list(net.state.queue) == ["held", "new"]
    assert net.may_stop()
    net.restart()
    known = net.state.gpus["studio"]
    assert (known.halted, known.halt_cause) == (state, FULL)


def test_when_it_is_ready_again_the_jobs_get_it(net: Scene) -> None:
    net.submit(net.pc, "held")
    net.says(net.gpu, "paused", FULL)
    net.says(net.gpu, "paused", FULL)
    net.sent.clear()
    net.says(net.gpu, "ready")
    assert [ack.request_id for ack in net.heard(net.pc, m.Ack)] == ["held"]
    assert [job["request_id"] for batch in net.heard(net.gpu, m.DispatchBatch) for job in batch.jobs] == ["held"]
    assert net.state.gpus["studio"].halted == ""


def test_another_gpu_takes_the_jobs_and_the_first_worker_drops_them(net: Scene) -> None:
    net.submit(net.pc, "held")
    net.says(net.gpu, "paused", FULL)
    other = net.worker("other", features=("range", FEATURE))
    assert [(ack.request_id, ack.gpu) for ack in net.heard(net.pc, m.Ack)][-1] == ("held", "other")
    assert [cancel.request_id for cancel in net.heard(net.gpu, m.Cancel)] == ["held"]
    assert net.heard(other, m.DispatchBatch)


@pytest.mark.parametrize("end", ["cancelled", "expired", "revoked"])
def test_a_job_that_ends_while_it_waits_is_stopped_at_the_worker_that_gave_it_back(net: Scene, end: str) -> None:
    net.submit(net.pc, "held")
    net.says(net.gpu, "paused", FULL)
    net.sent.clear()
    if end == "cancelled":
        net.say(net.pc, m.Cancel(request_id="held"))
    elif end == "revoked":
        net.happen(f.Revoked("id-client"))
    else:
        net.leave(net.pc)
        net.pass_time(net.limits.queued_ttl + 1)
    assert net.state.jobs == {}
    assert [cancel.request_id for cancel in net.heard(net.gpu, m.Cancel)] == ["held"]


def test_a_machine_that_stopped_so_is_not_started_for_jobs_until_an_hour_has_passed(net: Scene) -> None:
    net.submit(net.pc, "held")
    net.says(net.gpu, "paused", FULL)
    net.leave(net.gpu)
    net.phase(net.watch, "off")
    assert isinstance(net.submit(net.pc, "new"), m.Offline)
    net.pass_time(Limits().halted - 1)
    assert net.heard(net.watch, m.Boot) == []
    net.pass_time(1)
    assert [boot.request_id for boot in net.heard(net.watch, m.Boot)] == ["held"]


def test_an_older_worker_of_this_gpu_is_granted_jobs_again(net: Scene) -> None:
    net.says(net.gpu, "paused", FULL)
    net.leave(net.gpu)
    net.worker(features=("range",))
    assert isinstance(net.submit(net.pc), m.Ack)


def test_other_words_are_refused_and_a_client_may_not_say_it(net: Scene) -> None:
    net.says(net.gpu, "tired")
    net.says(net.pc, "paused")
    assert [error.code for fd in (net.gpu, net.pc) for error in net.heard(fd, m.Error)] == ["bad_request", "forbidden"]
    assert isinstance(net.submit(net.pc), m.Ack)


def test_the_frame_goes_only_to_clients_that_know_it(net: Scene) -> None:
    old = net.join("client", owner="old", features=("grant",))
    net.says(net.gpu, "paused", FULL)
    assert net.heard(old, m.WorkerState) == []
    assert FEATURE not in (net.heard(old, m.Registered)[0].features or ())


def test_an_engine_that_was_never_ready_is_the_reason_and_not_a_gpu_that_is_off(net: Scene) -> None:
    net.leave(net.gpu)
    net.leave(net.watch)
    net.says(net.join("worker", gpu="studio", features=("range", FEATURE)), "not_ready", MISSING)
    waits = net.reply(m.Offline, net.pc, "new")
    assert (waits.phase, waits.why) == ("not_ready", f"the GPU studio takes no jobs at present: {MISSING}")
    asks = net.join("client", features=("hub_status",))
    (gpu,) = net.status(asks).gpus
    assert (gpu["phase"], gpu["why"]) == ("not_ready", MISSING)
