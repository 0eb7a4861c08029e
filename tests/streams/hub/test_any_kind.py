"""Jobs of any kind at a hub with old and new workers and monitors: who gets them, and what each side hears."""

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.protocol import messages as m

PAINT = {"kind": "paint", "inputs": {"image": {"ext": ".png"}}, "params": {"words": "a cat"}, "outputs": ["image"]}
PAIR = {"video_ext": ".mp4", "audio_ext": ".wav"}
NEW, OLD = ("inputs",), ("range",)


@pytest.fixture
def client(net: Net) -> int:
    return net.join("client", features=("done", "inputs"))


def paint(net: Net, client: int, id_: str = "j1") -> m.Message:
    net.sent.pop(client, None)
    net.say(client, m.Submit(request_id=id_, task_type="paint", payload=PAINT))
    return net.sent[client][0]


def given(net: Net, worker: int) -> list[str]:
    """The jobs that a worker was sent."""
    alone = [each.request_id for each in net.heard(worker, m.Submit)]
    return alone + [job["request_id"] for batch in net.heard(worker, m.DispatchBatch) for job in batch.jobs]


def test_a_job_of_any_kind_goes_to_the_worker_that_knows_such_jobs(net: Net, client: int) -> None:
    old, new = net.worker("attic", features=OLD), net.worker("studio", features=NEW)
    answers = [paint(net, client, f"j{number}") for number in range(3)]
    assert [answer.gpu for answer in answers if isinstance(answer, m.Ack)] == ["studio"] * 3
    assert (given(net, old), given(net, new)) == ([], ["j0", "j1", "j2"])
    assert isinstance(net.submit(client, "pair", PAIR), m.Ack)
    assert given(net, old) == ["pair"], "a pair of files goes to either"


def test_a_job_that_only_old_workers_are_there_for_is_refused_with_the_part_to_update(net: Net, client: int) -> None:
    net.monitor("attic")
    assert isinstance(paint(net, client), m.Offline), "nothing is known of the worker yet"
    net.worker("attic", features=OLD)
    (refused,) = net.heard(client, m.Error)
    assert (refused.code, refused.request_id) == ("unsupported", "j1")
    assert refused.text == (
        "the worker of the GPU attic knows only jobs of a video and an audio file, not the kind paint; update that "
        "worker first"
    )
    assert net.state.jobs == {}
    again = paint(net, client)
    assert isinstance(again, m.Error)
    assert again.code == "unsupported", "now it is known at once"


def test_an_old_worker_without_a_name_is_named_as_the_part_to_update(net: Net, client: int) -> None:
    paint(net, client)
    old = net.join("worker")
    net.say(old, m.Online())
    assert [each.code for each in net.heard(client, m.Error)] == ["unsupported"]
    assert given(net, old) == []


def test_a_restarted_hub_remembers_that_a_sleeping_machine_has_an_old_worker(net: Net) -> None:
    net.leave(net.worker("attic", features=OLD))
    net.restart()
    refused = paint(net, net.join("client", features=("inputs",)))
    assert isinstance(refused, m.Error)
    assert refused.code == "unsupported"


def test_a_worker_that_was_replaced_by_an_older_one_is_not_sent_the_jobs_it_held(net: Net, client: int) -> None:
    net.leave(net.worker("attic", features=NEW))
    net.leave(net.worker("attic", features=NEW))
    new = net.worker("attic", features=NEW)
    paint(net, client)
    net.submit(client, "pair", PAIR)
    assert given(net, new) == ["j1", "pair"]
    net.leave(new)
    assert given(net, net.worker("attic", features=OLD)) == ["pair"]


def test_a_job_whose_owner_is_away_waits_to_be_refused(net: Net, client: int) -> None:
    net.monitor("attic")
    paint(net, client)
    net.leave(client)
    net.worker("attic", features=OLD)
    assert [*net.state.queue] == ["j1"]
    assert isinstance(paint(net, net.join("client", features=("inputs",))), m.Error)
    assert net.state.jobs == {}


def test_a_monitor_that_does_not_know_such_jobs_gets_the_copy_without_their_fields(net: Net, client: int) -> None:
    old = net.monitor("studio")
    new = net.join("monitor", gpus=("studio",), features=("power_state", "inputs"))
    paint(net, client)
    net.worker("studio", features=NEW)
    paint(net, client, "j2")
    for copy in net.heard(old, m.Submit):
        assert (copy.task_type, copy.payload) == ("paint", {})
    assert [copy.payload for copy in net.heard(new, m.Submit)] == [PAINT, PAINT]
    assert len(net.heard(old, m.Submit)) == 2


def test_a_pair_of_files_is_copied_to_monitors_as_ever(net: Net, client: int) -> None:
    monitor = net.monitor("studio")
    net.submit(client, "pair", PAIR)
    assert net.heard(monitor, m.Submit) == [m.Submit(request_id="pair", payload=PAIR)]


def test_only_the_machines_that_can_do_a_job_are_woken_and_kept_on_for_it(net: Net, client: int) -> None:
    attic, studio = net.monitor("attic"), net.monitor("studio")
    net.leave(net.worker("attic", features=OLD))
    net.leave(net.worker("studio", features=NEW))
    assert isinstance(paint(net, client), m.Offline)
    assert (len(net.heard(attic, m.Submit)), len(net.heard(studio, m.Submit))) == (0, 1)
    net.phase(attic, "off", "attic")
    net.phase(studio, "off", "studio")
    assert (len(net.heard(attic, m.Boot)), len(net.heard(studio, m.Boot))) == (0, 1)
    for monitor, gpu in ((attic, "attic"), (studio, "studio")):
        net.say(monitor, m.TaskQuery(request_id="q", gpu=gpu))
    waiting = [net.heard(fd, m.TaskQueryResponse)[0].active_count for fd in (attic, studio)]
    assert waiting == [0, 1]


def test_a_failed_boot_ends_the_jobs_that_only_this_machine_could_do(net: Net, client: int) -> None:
    attic, studio = net.monitor("attic"), net.monitor("studio")
    old = net.worker("attic", features=OLD)
    net.leave(net.worker("studio", features=NEW))
    net.phase(studio, "off", "studio")
    paint(net, client)
    net.phase(studio, "starting", "studio")
    net.say(attic, m.BootResult(status="failed", gpu="attic"))
    assert net.heard(client, m.BootResult) == [], "the attic could not do it anyway"
    net.say(studio, m.BootResult(status="failed", msg="no such machine", gpu="studio"))
    assert [each.request_id for each in net.heard(client, m.BootResult)] == ["j1"]
    assert net.state.jobs == {}
    assert given(net, old) == []
