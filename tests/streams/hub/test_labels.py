"""Jobs go only to GPUs whose labels are as they require."""

from typing import Any

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.protocol import messages as m

NEW = ("inputs", "kinds", "requires")


def worker(net: Net, gpu: str | None = "studio", *, online: bool = True, **said: Any) -> int:
    fd = net.join("worker", gpu=gpu, url="http://w:1", features=NEW, **said)
    if online:
        net.say(fd, m.Online())
    return fd


@pytest.fixture
def client(net: Net) -> int:
    return net.join("client", features=NEW)


def submit(net: Net, client: int, *requires: str, id_: str = "j1", **more: Any) -> m.Message:
    return net.submit(client, id_, {"requires": [*requires], **more})


def refused(answer: m.Message) -> tuple[str | None, str]:
    assert isinstance(answer, m.Error)
    return answer.code, answer.message or ""


def labelled(net: Net) -> list[f.GpuLabelled]:
    return [fact for fact in net.facts if isinstance(fact, f.GpuLabelled)]


def test_the_hub_knows_the_labels_and_slots_of_a_gpu_and_the_workers_word_counts_most(net: Net) -> None:
    net.join("monitor", gpus=("studio", "attic"), labels={"zone": "eu", "memory": 16}, machine="i-1")
    worker(net, labels={"memory": "24GB", "cuda": ""}, slots=2)
    gpu = net.state.gpus["studio"]
    assert gpu.slots == 2
    assert gpu.labels == {"cuda": "", "gpu": "studio", "machine": "i-1", "memory": "24GB", "zone": "eu"}
    told = {gpu["gpu"]: gpu.get("labels") for gpu in net.status(net.join("admin", features=("hub_status",))).gpus}
    assert told == {"studio": {"zone": "eu", "memory": "24GB", "cuda": ""}, "attic": {"zone": "eu", "memory": 16}}


def test_labels_that_are_said_again_are_no_fact_and_those_that_are_not_said_any_more_are_gone(net: Net) -> None:
    monitor = net.join("monitor", gpus=("studio",), labels={"memory": 16})
    for labels in ({"memory": 24}, {"memory": 24}, {}):
        net.leave(worker(net, labels=labels, slots=4))
    assert [fact.labels for fact in labelled(net)] == [{"memory": 16}, {"memory": 24}, {}]
    assert net.state.gpus["studio"].labels["memory"] == 16
    net.leave(monitor)
    worker(net)  # one of an earlier version
    assert (net.state.gpus["studio"].slots, len(labelled(net))) == (1, 4)


def test_a_worker_without_a_name_labels_the_gpu_that_it_is_given(net: Net) -> None:
    worker(net, None, labels={"zone": "eu"}, slots=3)
    gpu = net.state.gpus["gpu"]
    assert (gpu.labels["zone"], gpu.slots) == ("eu", 3)


def test_each_gpu_of_a_monitor_has_its_own_machine(net: Net) -> None:
    net.join("monitor", gpus=("a", "b", "c"), machine="i-0", machines={"a": "i-1", "b": "i-2", "other": "i-3"})
    assert [gpu.machine for gpu in net.state.gpus.values()] == ["i-1", "i-2", "i-0"]


@pytest.mark.parametrize("said", [{"slots": 1000}, {"slots": 0}, {"labels": {"gpu": "b"}}, {"labels": {"a": [1]}}])
def test_a_worker_that_lies_about_its_gpu_hears_it_and_goes_on_with_what_was_known(net: Net, said: Any) -> None:
    net.leave(worker(net, labels={"zone": "eu"}, slots=2))
    fd = worker(net, **said)
    error = net.heard(fd, m.Error)[0]
    assert (error.code, error.request_id) == ("bad_request", None)
    assert "; the hub goes on with what it knew" in (error.message or "")
    gpu = net.state.gpus["studio"]
    assert (gpu.online, gpu.slots, gpu.labels["zone"]) == (True, 2, "eu")


def test_a_worker_labels_no_gpu_of_others(net: Net) -> None:
    net.monitor("attic")
    worker(net, gpus=("attic",), labels={"zone": "eu"})
    assert "zone" not in net.state.gpus["attic"].labels


def test_a_job_goes_to_the_gpu_that_has_what_it_requires(net: Net, client: int) -> None:
    worker(net, "attic", labels={"memory": 8, "zone": "eu"})
    worker(net, "studio", labels={"memory": "24GB", "zone": "us"})
    for requires, gpu in (("memory>=16",), "studio"), (("zone=eu",), "attic"), (("gpu=studio", "zone!=eu"), "studio"):
        answer = submit(net, client, *requires, id_=gpu + requires[0])
        assert isinstance(answer, m.Ack)
        assert answer.gpu == gpu


def test_a_job_that_no_gpu_can_meet_is_refused_with_what_each_lacks_and_the_labels_there_are(
    net: Net, client: int
) -> None:
    worker(net, "attic", labels={"memory": 8, "zone": "eu"})
    worker(net, "studio", labels={"memory": 24})
    code, why = refused(submit(net, client, "memory>=16", "zone=eu"))
    assert code == "unmet"
    assert why == (
        "no GPU has all that the job requires: attic lacks memory>=16; studio lacks zone=eu. "
        "There are the labels gpu, memory, zone"
    )
    assert "j1" not in net.state.jobs
    assert refused(submit(net, client, "memory>=16", gpus=["attic"]))[1].startswith(
        "no GPU has all that the job requires: attic lacks memory>=16. "
    )


def test_a_job_waits_for_a_gpu_whose_labels_are_not_known_yet(net: Net, client: int) -> None:
    """Its worker has never been there: the machine is woken to learn them."""
    monitor = net.monitor("studio")
    worker(net, "attic", labels={"memory": 8})
    assert isinstance(submit(net, client, "memory>=16"), m.Offline)
    assert net.heard(monitor, m.Submit)
    worker(net, labels={"memory": 24})
    assert net.state.jobs["j1"].gpu == "studio"


@pytest.mark.parametrize("said", [{"labels": {"memory": 8}}, {}])
def test_the_job_is_refused_when_the_worker_has_told_them_or_tells_none(net: Net, client: int, said: Any) -> None:
    net.monitor("studio")
    assert isinstance(submit(net, client, "memory>=16"), m.Offline)
    worker(net, **said)
    assert net.heard(client, m.Error)[0].code == "unmet"
    assert refused(submit(net, client, "memory>=16"))[0] == "unmet"


def test_labels_are_known_after_a_restart(net: Net) -> None:
    net.leave(worker(net, labels={"memory": 8}, slots=2))
    net.restart()
    net.monitor("studio")
    client = net.join("client", features=NEW)
    assert net.state.gpus["studio"].slots == 2
    assert refused(submit(net, client, "memory>=16"))[0] == "unmet"
    assert isinstance(submit(net, client, "memory>=4"), m.Offline)


def test_a_kind_is_a_label_too(net: Net, client: int) -> None:
    fd = net.join("worker", gpu="studio", url="http://w:1", features=NEW, labels={})
    net.say(fd, m.GpuKinds(number=1, of=1, kind={"name": "comfyui", "outputs": [{"name": "image"}]}))
    net.say(fd, m.Online())
    assert net.state.gpus["studio"].labels == {"gpu": "studio", "kind:comfyui": ""}
    job = {"kind": "comfyui", "inputs": {}, "outputs": ["image"]}
    assert isinstance(submit(net, client, "kind:comfyui", **job), m.Ack)
    assert "kind:comfyui" in refused(submit(net, client, "kind:blender", id_="j2", **job))[1]


@pytest.mark.parametrize("requires", ["memory>=24", ["memory=>24"], ["memory>=much"], ["x"] * 33, [None]])
def test_what_is_no_requirement_is_refused(net: Net, client: int, requires: Any) -> None:
    worker(net)
    assert refused(net.submit(client, "j1", {"requires": requires}))[0] == "wrong_input"
    assert "j1" not in net.state.jobs


def with_cap(net: Net, cap: int) -> int:
    net.fd += 1
    net.happen(f.Opened(net.fd))
    register = m.Register(key="k", features=("requires", "priority"))
    net.happen(f.Registering(net.fd, register, "k", f.License("ann", "client", max_priority=cap)))
    assert net.heard(net.fd, m.Registered)[0].features == (*hub.FEATURES, "requires", *(("priority",) if cap else ()))
    return net.fd


def test_a_priority_counts_up_to_the_cap_of_the_license(net: Net) -> None:
    with_cap(net, 0)
    client = with_cap(net, 5)
    for priority in 5, 0, -100:
        assert isinstance(net.submit(client, f"j{priority}", {"priority": priority}), m.Offline)
        assert net.state.jobs[f"j{priority}"].priority == priority
    code, why = refused(net.submit(client, "j6", {"priority": 6}))
    assert code == "wrong_input"
    assert "the priority 6 is above 5, the highest of this license" in why


@pytest.mark.parametrize("priority", ["1", 1.5, True, None, -101])
def test_what_is_no_priority_is_refused(net: Net, client: int, priority: Any) -> None:
    assert "must be a whole number from -100 to 0" in refused(net.submit(client, "j1", {"priority": priority}))[1]
