"""The hub learns what the GPUs can do, keeps it, and tells clients."""

from typing import Any

import orjson
import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub.evolve import CHANGES
from wakestream.streams.hub.placement import BACK_WITHIN
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

NEW = ("inputs", "kinds")


def kind(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputs": [{"name": "image"}], "outputs": [{"name": "image"}], **more}


def describe(net: Net, fd: int, *kinds: dict[str, Any]) -> None:
    for number, each in enumerate(kinds, 1):
        net.say(fd, m.GpuKinds(number=number, of=len(kinds), kind=each))
    if not kinds:
        net.say(fd, m.GpuKinds())


def worker(net: Net, gpu: str | None = "studio", *kinds: dict[str, Any]) -> int:
    fd = net.join("worker", gpu=gpu, url="http://w:1", features=NEW)
    describe(net, fd, *kinds)
    net.say(fd, m.Online())
    return fd


@pytest.fixture
def client(net: Net) -> int:
    return net.join("client", features=NEW)


def submit(net: Net, client: int, kind: str, id_: str = "j1", **more: Any) -> m.Message:
    net.sent.pop(client, None)
    payload = {"kind": kind, "inputs": {}, "params": {}, "outputs": ["image"], **more}
    net.say(client, m.Submit(request_id=id_, task_type=kind, payload=payload))
    return next(each for each in net.sent[client] if not isinstance(each, m.KindsChanged))


def asked(net: Net, client: int) -> tuple[dict[str, list[tuple[str, bool]]], bool]:
    """The GPUs of each kind, and whether these are all."""
    net.sent.pop(client, None)
    net.say(client, m.KindsQuery(request_id="q"))
    frames = net.heard(client, m.KindsResponse)
    assert [each.number for each in frames] == [*range(1, frames[0].of + 1)]
    assert {each.request_id for each in frames} == {"q"}
    assert all(wire.size(wire.encode(each)) <= wire.MAX_FRAME for each in frames)
    found: dict[str, list[tuple[str, bool]]] = {}
    for frame in frames:
        for entry in frame.kinds:
            gpus = found.setdefault(entry["kind"]["name"], [])
            gpus += [(gpu["gpu"], gpu["online"]) for gpu in entry["gpus"]]
    return found, frames[0].complete


def test_only_peers_that_announce_the_feature_are_offered_it(net: Net) -> None:
    for role, announced, offered in (
        ("client", NEW, True),
        ("client", ("done",), False),
        ("worker", NEW, True),
        ("worker", ("range",), False),
        ("monitor", ("kinds",), False),
    ):
        (registered,) = net.heard(net.join(role, features=announced), m.Registered)
        assert ("kinds" in (registered.features or ())) is offered


def test_a_job_for_a_gpu_goes_to_this_one_and_waits_for_it(net: Net, client: int) -> None:
    worker(net, "one", kind("paint"), kind("lipsync"))
    two = worker(net, "two", kind("paint"), kind("join"), kind("lipsync"))
    for number in range(4):
        answer = submit(net, client, "paint", f"j{number}", gpus=["two"])
        assert isinstance(answer, m.Ack)
        assert answer.gpu == "two"
    assert net.reply(m.Ack, client, "pair", {"video_ext": ".mp4", "audio_ext": ".wav", "gpus": ["two"]}).gpu == "two"
    net.leave(two)
    assert isinstance(submit(net, client, "paint", "later", gpus=["two"]), m.Offline), "the other one has the kind too"
    for job, name, gpu, words in (
        ("w1", "join", "one", "the GPU one does not have the kind join; it has lipsync, paint"),
        ("w2", "paint", "plog", "there is no GPU plog; there are one, two"),
    ):
        refused = submit(net, client, name, job, gpus=[gpu])
        assert isinstance(refused, m.Error)
        assert (refused.code, refused.text) == ("unknown_kind", words)


def test_a_kind_that_no_gpu_has_is_refused_with_those_there_are(net: Net, client: int) -> None:
    worker(net, "one", kind("paint"))
    worker(net, "two", kind("join"), kind("lipsync"))
    refused = submit(net, client, "fly")
    assert isinstance(refused, m.Error)
    assert (refused.code, refused.text) == ("unknown_kind", "no GPU has the kind fly; there are join, lipsync, paint")
    assert net.state.jobs == {}


def test_a_job_waits_for_a_gpu_that_may_have_its_kind_while_the_gpus_monitor_is_away(net: Net, client: int) -> None:
    one, watch = worker(net, "one", kind("paint")), net.monitor("one")
    two = net.monitor("two")
    net.phase(two, "off", "two")
    assert isinstance(submit(net, client, "fly"), m.Offline)
    net.phase(two, "starting", "two")
    net.leave(two)
    net.pass_time(net.limits.kinds_every)
    describe(net, one, kind("join"))
    assert [*net.state.jobs] == ["j1"]
    assert isinstance(submit(net, client, "walk", "j2"), m.Offline)
    assert asked(net, client)[1] is False
    net.leave(watch)
    net.monitor("one")
    describe(net, net.join("worker", gpu="two", features=NEW), kind("walk"))
    assert [*net.state.jobs] == ["j2"], "now the kinds of all are known"


@pytest.mark.parametrize("only", [True, False], ids=["no monitor is left", "another monitor is there"])
def test_no_job_waits_for_a_gpu_that_never_told_its_kinds_when_its_monitor_stays_away(
    net: Net, client: int, *, only: bool
) -> None:
    worker(net, "one", kind("paint"))
    if not only:
        net.monitor("one")
    two = net.monitor("two")
    net.phase(two, "off", "two")
    assert isinstance(submit(net, client, "fly"), m.Offline)
    net.leave(two)
    net.pass_time(BACK_WITHIN - 1)
    assert net.heard(client, m.Error) == []
    net.pass_time(1)
    assert [refused.code for refused in net.heard(client, m.Error)] == ["unknown_kind"]
    assert isinstance(submit(net, client, "fly"), m.Error)
    assert asked(net, client)[1] is True


def test_a_gpu_that_is_known_to_have_the_kind_comes_before_one_that_may_have_it(net: Net) -> None:
    queue = net.join("client", features=(*NEW, "queue"))
    monitors = {name: net.monitor(name) for name in ("a", "b")}
    net.leave(worker(net, "b", kind("paint")))
    for name, fd in monitors.items():
        net.phase(fd, "off", name)
    submit(net, queue, "paint")
    assert [name for name, fd in monitors.items() if net.heard(fd, m.Submit)] == ["b"]
    worker(net, "a")
    worker(net, "b", kind("paint"))
    for id_, client in (("j2", queue), ("j3", net.join("client", features=NEW))):
        answer = submit(net, client, "paint", id_)
        assert isinstance(answer, m.Ack)
        assert answer.gpu == "b"
        net.say(client, m.Cancel(request_id=id_))


@pytest.mark.parametrize("features", [NEW, (*NEW, "queue")], ids=["granted at once", "placed late"])
def test_a_start_that_fails_fails_no_job_if_only_another_gpu_is_known_to_have_its_kind(
    net: Net, features: tuple[str, ...]
) -> None:
    client, watch, other = net.join("client", features=features), net.monitor("a"), net.monitor("b")
    net.leave(worker(net, "b", kind("paint")))
    net.phase(other, "off", "b")
    net.leave(other)
    net.phase(watch, "off", "a")
    net.pass_time(BACK_WITHIN)
    assert isinstance(submit(net, client, "paint"), m.Offline)
    net.phase(watch, "starting", "a")
    net.say(watch, m.BootResult(success=False, status="failed", gpu="a", msg="no power"))
    net.phase(watch, "failed", "a")
    net.pass_time(1)
    assert net.heard(client, m.BootResult) == []
    assert [*net.state.jobs] == ["j1"]


def test_a_restarted_hub_refuses_no_job_before_the_gpus_that_may_do_it_could_be_back(net: Net) -> None:
    worker(net, "one", kind("paint"))
    net.phase(net.monitor("two"), "off", "two")
    net.happen(f.BookSeen((), (("id-monitor", net.now),)))  # so that nothing is kept of the monitor
    net.restart()
    net.monitor("one")
    worker(net, "one", kind("paint"))
    client = net.join("client", features=NEW)
    assert isinstance(submit(net, client, "fly"), m.Offline)
    assert asked(net, client)[1] is False
    net.pass_time(BACK_WITHIN)
    assert [refused.code for refused in net.heard(client, m.Error)] == ["unknown_kind"]
    assert net.state.jobs == {}
    assert isinstance(submit(net, client, "fly"), m.Error)
    assert asked(net, client)[1] is True


def test_a_job_for_a_gpu_that_is_removed_by_force_is_refused_at_once(net: Net, client: int) -> None:
    worker(net, "one", kind("paint"))
    watch = net.monitor("two")
    net.phase(watch, "off", "two")
    assert isinstance(submit(net, client, "paint", gpus=["two"]), m.Offline)
    net.leave(watch)
    net.say(net.join("admin"), m.GpuAdmin(request_id="a", gpu="two", action="remove", force=True))
    assert [refused.code for refused in net.heard(client, m.Error)] == ["unknown_kind"]
    assert net.state.jobs == {}


def test_a_gpu_whose_kinds_are_not_known_may_have_any(net: Net, client: int) -> None:
    worker(net, "one", kind("paint"))
    worker(net, "two")
    answer = submit(net, client, "fly")
    assert isinstance(answer, m.Ack)
    assert answer.gpu == "two"
    assert asked(net, client) == ({"paint": [("one", True)]}, False)


def test_the_kinds_of_a_sleeping_machine_are_known_after_a_restart(net: Net) -> None:
    whole = {"allOf": [{"$ref": "#"}], "properties": {"seed": {"type": "integer", "pattern": "^(a+)+$"}}}
    net.leave(worker(net, "studio", kind("paint", title="Paint", params=whole)))
    net.restart()
    net.monitor("studio")
    client = net.join("client", features=NEW)
    assert asked(net, client) == ({"paint": [("studio", False)]}, True)
    told = net.heard(client, m.KindsResponse)[0].kinds[0]["kind"]
    flat = {"properties": {"seed": {"type": "integer"}}}
    assert (told["title"], told["params"]) == ("Paint", flat), "an old worker says what no client can check safely"
    CHANGES[f.GpuDescribed](net.state, f.GpuDescribed("studio", 1.0, (kind("paint", params=whole),)))
    assert (net.state.gpus["studio"].kinds or {})["paint"]["params"] == flat, "an old hub journaled it whole"
    assert isinstance(submit(net, client, "paint"), m.Offline)
    assert isinstance(submit(net, client, "fly", "j2"), m.Error)
    assert net.state.kinds_bytes > 0


def test_a_worker_without_a_name_has_the_kinds_that_it_described_before_it_was_online(net: Net, client: int) -> None:
    worker(net, None, kind("paint"))
    assert asked(net, client) == ({"paint": [("gpu", True)]}, True)
    assert isinstance(submit(net, client, "fly"), m.Error)


def test_kinds_that_change_while_the_gpu_is_online_are_noticed_and_waiting_jobs_granted(net: Net, client: int) -> None:
    studio = worker(net, "studio", kind("paint"))
    net.monitor("attic")
    assert isinstance(submit(net, client, "join"), m.Offline), "the attic may have it"
    net.pass_time(60.0)
    net.sent.pop(client)
    describe(net, studio, kind("paint"), kind("join"))
    assert net.heard(client, m.KindsChanged) == [m.KindsChanged(gpu="studio")]
    assert [each.gpu for each in net.heard(client, m.Ack)] == ["studio"]
    assert asked(net, client)[0] == {"paint": [("studio", True)], "join": [("studio", True)]}


def test_a_worker_that_says_the_same_again_changes_nothing(net: Net, client: int) -> None:
    studio = worker(net, "studio", kind("paint"))
    kept = len(net.journal)
    net.sent.pop(client, None)
    for _ in range(3):
        net.pass_time(60.0)
        describe(net, studio, kind("paint"))
    assert len(net.journal) == kept
    assert net.heard(client, m.KindsChanged) == []


def test_a_worker_that_is_updated_or_replaced_by_an_older_one_does_what_it_can(net: Net, client: int) -> None:
    net.monitor("studio")
    net.leave(worker(net, "studio", kind("paint")))
    net.leave(net.worker("studio", features=("inputs",)))
    assert asked(net, client) == ({}, False), "this one does not say its kinds"
    net.leave(net.worker("studio", features=("range",)))
    assert asked(net, client) == ({}, True), "it has none but lipsync"
    worker(net, "studio", kind("paint"))
    assert isinstance(submit(net, client, "paint"), m.Ack)


def test_a_job_whose_machine_cannot_be_started_is_told_why(net: Net, client: int) -> None:
    net.leave(worker(net, "studio", kind("paint")))
    net.monitor("attic")
    worker(net, "attic", kind("join"))
    offline = submit(net, client, "paint")
    assert isinstance(offline, m.Offline)
    assert offline.phase == "no_monitor"
    assert offline.why == "only the GPU studio has the kind paint, and its monitor is not connected"
    net.leave(net.worker("cellar", features=("inputs",)))
    offline = submit(net, client, "fly", "j3")
    assert isinstance(offline, m.Offline)
    assert offline.why == "no GPU is known to have the kind fly; cellar may have it, and its monitor is not connected"
    old = net.join("client", features=("inputs",))
    offline = submit(net, old, "paint", "j2")
    assert isinstance(offline, m.Offline)
    assert offline.why is None


def test_different_descriptions_of_one_name_stay_apart(net: Net, client: int) -> None:
    worker(net, "one", kind("paint", title="One"))
    worker(net, "two", kind("paint", title="Two"))
    worker(net, "six", kind("paint", title="Two"))
    net.say(client, m.KindsQuery(request_id="q"))
    (frame,) = net.heard(client, m.KindsResponse)
    shown = [(entry["kind"]["title"], [gpu["gpu"] for gpu in entry["gpus"]]) for entry in frame.kinds]
    assert shown == [("One", ["one"]), ("Two", ["two", "six"])]


def test_many_and_long_kinds_come_in_frames_that_every_peer_accepts(net: Net, client: int) -> None:
    long = [kind(f"k{number}", help="x" * 39_000) for number in range(6)]
    for number in range(30):
        worker(net, f"{number}-" + "\N{GRINNING FACE}" * 90, *long)
    found, complete = asked(net, client)
    assert complete
    assert [len(gpus) for gpus in found.values()] == [30] * 6


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([kind("paint", help="x" * 41_000)], "too_large"),
        ([kind(f"k{number}") for number in range(65)], "too_large"),
        ([kind(f"k{number}", help="x" * 39_000) for number in range(7)], "too_large"),
        ([{"name": "paint"}], "bad_request"),
        ([kind("paint"), kind("paint")], "bad_request"),
        ([kind("paint", params={"properties": {"a": orjson.loads("[" * 60 + "]" * 60)}})], "bad_request"),
        ([kind("paint", params={"properties": {"a": orjson.loads('{"a":' * 60 + "1" + "}" * 60)}})], "bad_request"),
    ],
)
def test_a_description_that_cannot_be_is_refused_and_the_kinds_count_as_unknown(
    net: Net, client: int, kinds: list[dict[str, Any]], code: str
) -> None:
    studio = worker(net, "studio", kind("join"))
    net.pass_time(60.0)
    describe(net, studio, *kinds)
    assert code in [each.code for each in net.heard(studio, m.Error)]
    assert asked(net, client) == ({}, False)
    assert isinstance(submit(net, client, "paint"), m.Ack)


@pytest.mark.parametrize(("number", "of"), [(2, 2), (3, 2), (0, 1), (-1, 1), (1, 0)])
def test_parts_that_come_in_another_order_are_refused(net: Net, number: int, of: int) -> None:
    studio = worker(net, "studio")
    net.say(studio, m.GpuKinds(number=number, of=of, kind=kind("paint")))
    assert [each.code for each in net.heard(studio, m.Error)] == ["bad_request"]


def test_many_workers_cannot_fill_the_hub_with_kinds() -> None:
    net = Net(kinds_bytes=200_000)
    workers = [worker(net, f"g{number}", *(kind(f"k{n}", help="x" * 30_000) for n in range(3))) for number in range(5)]
    assert net.state.kinds_bytes <= 200_000
    assert [bool(net.heard(fd, m.Error)) for fd in workers] == [False, False, True, True, True]
    for fd in workers:
        net.leave(fd)
    assert 0 < net.state.kinds_bytes <= 200_000


def test_unfinished_descriptions_end_with_their_connection(net: Net) -> None:
    fd = net.join("worker", gpu="studio", features=NEW)
    net.say(fd, m.GpuKinds(number=1, of=2, kind=kind("paint")))
    assert net.state.kinds_bytes > 0
    net.leave(fd)
    assert net.state.kinds_bytes == 0
    assert net.state.gpus["studio"].kinds is None


def test_kinds_that_change_all_the_time_do_not_fill_the_journal(net: Net, client: int) -> None:
    studio = worker(net, "studio", kind("paint"))
    kept = len(net.journal)
    for number in range(100):
        describe(net, studio, kind(f"k{number}"))
        net.say(studio, m.Online())
    assert len([fact for fact in net.journal[kept:] if isinstance(fact, f.GpuDescribed)]) <= 1
    net.pass_time(11.0)
    assert asked(net, client)[0] == {"k99": [("studio", True)]}, "the last one counts in the end"


def test_a_client_that_asks_all_the_time_is_told_to_wait(net: Net, client: int) -> None:
    for _ in range(21):
        net.say(client, m.KindsQuery(request_id="q"))
    assert [each.code for each in net.heard(client, m.Error)] == ["too_fast"]


def test_the_status_says_how_many_waiting_jobs_a_gpu_can_do(net: Net) -> None:
    net.monitor("studio"), net.monitor("attic")
    net.leave(worker(net, "studio", kind("paint")))
    net.leave(worker(net, "attic", kind("join")))
    client = net.join("client", features=(*NEW, "hub_status"))
    for number in range(3):
        submit(net, client, "paint" if number else "join", f"j{number}")
    net.say(client, m.HubStatusQuery(request_id="q"))
    (answer,) = net.heard(client, m.HubStatus)
    assert {gpu["gpu"]: gpu["waiting"] for gpu in answer.gpus} == {"studio": 2, "attic": 1}
