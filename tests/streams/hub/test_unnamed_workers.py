"""Workers that do not name their GPU: a deployed GPU worker, and a text worker, which has no GPU."""

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m


def phases(net: Net) -> dict[str, str]:
    return {name: gpu.phase for name, gpu in net.state.gpus.items()}


def gpu_worker(net: Net) -> int:
    """Registers and says `gpu.power.online` in one burst."""
    fd = net.join("worker")
    net.say(fd, m.Online(msg="GPU服务器已启动"))
    return fd


def test_a_text_worker_that_comes_first_leaves_the_gpu_and_its_name_to_the_real_worker(net: Net) -> None:
    monitor = net.monitor("studio")
    net.join("worker")
    assert net.state.gpus["studio"].worker is None
    real = gpu_worker(net)
    assert phases(net) == {"studio": "online"}
    assert net.state.gpus["studio"].worker == real
    assert [said.gpu for said in net.heard(monitor, m.Online)] == ["studio"]


def test_no_gpu_is_left_when_the_machine_is_off_and_the_text_worker_stays(net: Net) -> None:
    monitor = net.monitor("studio")
    net.join("worker")
    real = gpu_worker(net)
    net.phase(monitor, "stopping")
    net.leave(real)
    net.phase(monitor, "off")
    assert phases(net) == {"studio": "off"}
    net.pass_time(3600.0)
    assert net.state.gpus["studio"].account.running_since is None


def test_a_text_worker_alone_is_no_gpu_and_takes_no_job(net: Net) -> None:
    text, client = net.join("worker"), net.join("client")
    net.say(text, m.Ping())
    net.submit(client)
    assert phases(net) == {}
    assert not net.heard(text, m.Submit)
    net.say(text, m.TaskActive(task_id="t"))
    net.say(text, m.Url(url="http://w:1"))
    net.say(text, m.Result(request_id="j1", task_type="x", result={}))
    assert phases(net) == {}
    assert "j1" in net.state.jobs


def test_an_unnamed_online_worker_gets_queued_jobs(net: Net, client: int) -> None:
    net.submit(client)
    worker = gpu_worker(net)
    (batch,) = net.heard(worker, m.DispatchBatch)
    assert [job["request_id"] for job in batch.jobs] == ["j1"]
    assert net.state.jobs["j1"].gpu == "gpu"
    net.submit(client, "j2")
    assert [job.request_id for job in net.heard(worker, m.Submit)] == ["j2"]


def test_unnamed_workers_are_distinct_and_a_reconnected_one_is_the_same(net: Net) -> None:
    first, _ = gpu_worker(net), gpu_worker(net)
    assert sorted(net.state.gpus) == ["gpu", "gpu-2"]
    net.leave(first)
    assert phases(net) == {"gpu": "lost", "gpu-2": "online"}
    gpu_worker(net)
    assert phases(net) == {"gpu": "online", "gpu-2": "online"}
