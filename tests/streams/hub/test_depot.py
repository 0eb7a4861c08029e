"""Jobs whose files go through the depot: the hub has them stored, does them by itself, and keeps their results."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.streams.hub_net import Net, Store
from wakestream.streams.hub import depot, depot_files, hub
from wakestream.streams.hub import events as f
from wakestream.streams.hub.rows import event_row
from wakestream.streams.hub.state import ALL
from wakestream.streams.placement.place import PlacePolicy
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Row
from wakestream.streams.replay.input_rows import event_from

DAY = 86_400.0
VIDEO = d.DepotFile(name="video", blake3="a" * 64, ext=".mp4", size=40_000_000)
AUDIO = d.DepotFile(name="audio", blake3="b" * 64, ext=".wav", size=10_000_000)
FILES = (VIDEO, AUDIO)
RESULT = d.DepotFile(name="result", blake3="c" * 64, ext=".mp4", size=9)


def client(net: Net, owner: str = "ann", *more: str) -> int:
    return net.join("client", owner=owner, features=("queue", "done", "depot", "released", *more))


def worker(net: Net, gpu: str = "studio", *, depot: bool = True) -> int:
    return net.worker(gpu, features=("inputs", "depot") if depot else ("inputs",))


def off(net: Net, *gpus: str) -> dict[str, int]:
    monitors = {gpu: net.monitor(gpu, "release") for gpu in gpus or ("studio",)}
    for gpu, fd in monitors.items():
        net.phase(fd, "off", gpu)
    return monitors


def woken(net: Net, monitor: int) -> bool:
    return bool(net.heard(monitor, m.Submit))


def offer(net: Net, fd: int, id_: str = "j1", files: tuple[d.DepotFile, ...] = FILES) -> d.DepotPlaces:
    net.submit(fd, id_)
    net.say(fd, d.DepotOffer(request_id=id_, files=files))
    return net.heard(fd, d.DepotPlaces)[-1]


def store(net: Store, fd: int, id_: str = "j1", files: tuple[d.DepotFile, ...] = FILES) -> None:
    """Have a job stored, whose client is then free to go."""
    offer(net, fd, id_, files)
    net.put("ann", *files)
    net.say(fd, d.DepotStored(request_id=id_))
    assert net.heard(fd, d.DepotStored)


def resting(**limits: Any) -> tuple[Store, int, int]:
    """A hub whose machine is off, with the machine's monitor and a client."""
    net = Store(**limits)
    return net, off(net)["studio"], client(net)


def fetching(**limits: Any) -> tuple[Store, int, int]:
    """A hub whose worker has begun with the stored job of a client."""
    net, _, ann = resting(**limits)
    store(net, ann)
    return net, ann, worker(net)


def deliver(net: Store, fd: int, id_: str = "j1") -> None:
    net.say(fd, d.DepotOffer(request_id=id_, files=(RESULT,)))
    net.put("ann", RESULT)
    net.say(fd, d.DepotDelivered(request_id=id_, files=(d.DepotPlace(**place(RESULT)),)))


def delivered(**limits: Any) -> tuple[Store, int, int]:
    """The same, and the worker has delivered the results."""
    net, ann, one = fetching(**limits)
    deliver(net, one)
    return net, ann, one


def at_step(at: str) -> tuple[Store, int, int | None]:
    """A hub with a job that has come so far, its client, and the worker that was given it."""
    net, _, ann = resting()
    offer(net, ann)
    if at != "storing":
        net.put("ann", *FILES)
        net.say(ann, d.DepotStored(request_id="j1"))
    one = worker(net) if at in ("held", "delivered") else None
    if one is not None and at == "delivered":
        deliver(net, one)
    return net, ann, one


def place(file: d.DepotFile) -> dict[str, Any]:
    return {"name": file.name, "blake3": file.blake3, "ext": file.ext, "size": file.size}


def seals(net: Net, kind: type[m.Message]) -> list[f.Seal | f.Links | None]:
    return [each.seal for each in net.commands if isinstance(each, f.Send) and isinstance(each.message, kind)]


def codes(net: Net, fd: int) -> list[str | None]:
    return [each.code for each in net.heard(fd, d.DepotPlaces)]


# Files of a job that waits


def test_the_answer_to_an_offer_says_what_is_missing_and_the_job_is_not_granted_while_it_is_stored() -> None:
    net, _, ann = resting()
    net.put("ann", AUDIO)
    places = offer(net, ann)
    assert [(each.name, each.have) for each in places.files] == [("video", False), ("audio", True)]
    assert seals(net, d.DepotPlaces) == [f.Links("ann", "j1", "put")]
    assert d.FEATURE in net.heard(client(net), m.Registered)[0].features  # type: ignore[operator]
    one = worker(net)
    assert not net.heard(ann, m.Ack)
    assert not net.heard(one, d.DepotFetch)
    net.say(ann, d.DepotWithdraw(request_id="j1"))
    assert net.heard(ann, m.Ack)[0].gpu == "studio"


def test_a_job_that_is_no_longer_stored_expires_by_the_time_when_its_client_left() -> None:
    net, _, ann = resting()
    store(net, ann)
    net.leave(ann)
    net.pass_time(0.5 * net.limits.queued_ttl)
    later, other = client(net), client(net)
    net.submit(later, "j2")
    net.leave(later)
    net.say(other, d.DepotOffer(request_id="j1", files=(VIDEO,)))
    net.pass_time(0.5 * net.limits.queued_ttl + 1)
    assert list(net.state.jobs) == ["j2"]


def test_a_job_that_is_granted_at_once_does_not_use_the_depot() -> None:
    net = Store()
    worker(net)
    ann = client(net)
    assert isinstance(net.submit(ann), m.Ack)
    net.say(ann, d.DepotOffer(request_id="j1", files=FILES))
    assert codes(net, ann) == ["unknown_job"]


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"depot": False}, "no_depot"), ({"depot_quota": 10}, "too_large"), ({"depot_files": 1}, "too_large")],
)
def test_a_job_that_the_depot_cannot_take_goes_the_direct_way_and_wakes_its_machine(
    limits: dict[str, Any], code: str
) -> None:
    net, monitor, ann = resting(**limits)
    assert offer(net, ann).code == code
    assert woken(net, monitor)
    worker(net)
    assert net.heard(ann, m.Ack)


def test_a_stored_job_waits_for_a_depot_that_is_away_and_keeps_no_machine_on() -> None:
    net = Store(depot=False)
    monitor, fd, ann = off(net)["studio"], own(net), client(net)
    store(net, ann)
    net.leave(ann)
    net.leave(fd)
    one = worker(net)
    net.pass_time(1.0)
    assert not net.heard(one, d.DepotFetch)
    assert net.use(monitor, gpu="studio").active_count == 0
    own(net)
    net.pass_time(1.0)
    assert net.heard(one, d.DepotFetch)


def test_the_next_uploads_of_a_client_wake_nothing_before_their_turn() -> None:
    net, monitor, ann = resting()
    offer(net, ann, "j1", (d.DepotFile(name="video", blake3="a" * 64, size=900_000_000),))
    net.say(ann, d.DepotProgress(request_id="j1", left=900_000_000, rate=1e6))
    offer(net, ann, "j2", (d.DepotFile(name="video", blake3="b" * 64, size=90_000),))
    net.pass_time(1.0)
    assert not woken(net, monitor)


def test_what_the_depot_said_comes_back_from_the_hubs_log() -> None:
    asked = f.AskDepot("check", "ann", "j1", 5, FILES, "studio")
    for event in (f.DepotAnswered(asked, {VIDEO.blake3: 5}), f.DepotAnswered(asked, code="down", reason="no answer")):
        direction, label, data, job = event_row(event, 1.0)
        assert event_from(Row(1, 0.0, direction, label, json.loads(json.dumps(data)), job)) == event


@pytest.mark.parametrize("fault", ["down", "full", "denied"])
def test_a_depot_that_fails_holds_no_job(fault: str) -> None:
    net, monitor, ann = resting()
    net.fault = fault
    places = offer(net, ann)
    assert (places.code, places.reason) == (fault, "it said so")
    assert woken(net, monitor)
    net.fault = ""
    assert offer(net, ann).code is None
    net.fault = fault
    net.say(ann, d.DepotStored(request_id="j1"))
    assert codes(net, ann)[-1] == fault
    worker(net)
    assert net.heard(ann, m.Ack)


@pytest.mark.parametrize("fault", ["full", "too_large"])
def test_files_for_which_the_depot_has_no_room_are_not_in_the_list(fault: str) -> None:
    net, _, ann = resting()
    store(net, ann, files=(AUDIO,))
    net.slow, net.fault = True, fault
    net.submit(ann, "j2")
    net.say(ann, d.DepotOffer(request_id="j2", files=FILES))
    net.answer()
    net.slow, net.fault = False, ""
    net.pass_time(1)
    assert codes(net, ann)[-1] == fault
    net.say(ann, d.DepotList(request_id="l"))
    assert [each["blake3"] for each in net.heard(ann, d.DepotListed)[-1].files] == [AUDIO.blake3]
    assert [*net.files] == [("ann", AUDIO.blake3)]


def test_kinds_that_need_a_secret_and_workers_of_an_earlier_version_are_no_work_for_the_depot() -> None:
    net = Store()
    monitor = off(net)["studio"]
    one = worker(net, depot=False)
    net.leave(one)
    net.phase(monitor, "off")
    ann = client(net)
    assert offer(net, ann).code == "unsupported"
    one = net.join("worker", gpu="studio", url="http://w:1", features=("inputs", "kinds", "depot"))
    params = {"properties": {"token": {"type": "string", "format": "password"}}, "required": ["token"]}
    kind = {"name": "paint", "outputs": [{"name": "x"}], "params": params}
    net.say(one, m.GpuKinds(number=1, of=1, kind=kind))
    net.say(one, m.Online())
    net.leave(one)
    net.phase(monitor, "off")
    net.submit(ann, "j2", {"kind": "paint", "inputs": {}})
    net.say(ann, d.DepotOffer(request_id="j2", files=FILES))
    assert net.heard(ann, d.DepotPlaces)[-1].reason == "the parameter token is secret, and the hub does not get it"


def test_a_job_of_another_license_and_one_that_is_not_known_have_no_places() -> None:
    net, _, ann = resting()
    bob = client(net, "bob")
    net.submit(ann)
    for id_ in ("j1", "j2"):
        net.say(bob, d.DepotOffer(request_id=id_, files=FILES))
        net.say(bob, d.DepotStored(request_id=id_))
    assert codes(net, bob) == ["unknown_job"] * 4
    assert not net.state.jobs["j1"].depot


def test_stored_is_said_only_when_the_depot_has_all_bytes() -> None:
    net, _, ann = resting()
    offer(net, ann)
    net.put("ann", AUDIO, d.DepotFile(name="video", blake3=VIDEO.blake3, size=5))
    net.say(ann, d.DepotStored(request_id="j1"))
    assert not net.heard(ann, d.DepotStored)
    assert [each.have for each in net.heard(ann, d.DepotPlaces)[-1].files] == [False, True]
    net.put("ann", VIDEO)
    net.say(ann, d.DepotStored(request_id="j1"))
    assert net.heard(ann, d.DepotStored)[0].until == net.now + 7 * DAY


# When a machine is woken


def test_a_machine_is_woken_when_it_is_on_by_the_time_the_upload_is_done() -> None:
    net, monitor, ann = resting()
    net.submit(ann)
    assert not woken(net, monitor)
    net.say(ann, d.DepotOffer(request_id="j1", files=(d.DepotFile(name="video", blake3="a" * 64, size=300_000_000),)))
    net.say(ann, d.DepotProgress(request_id="j1", left=300_000_000, rate=1_500_000.0))
    for _ in range(10):
        net.pass_time(1.0)
    assert not woken(net, monitor)
    said = net.heard(ann, m.Offline)[-1].why
    assert said is not None
    assert said.startswith("studio is started in ")
    assert said.endswith(" s, when the upload will be nearly done")
    net.say(ann, d.DepotProgress(request_id="j1", left=179_000_000, rate=1_500_000.0))
    net.pass_time(1.0)
    assert woken(net, monitor)


def test_a_wait_for_an_upload_is_not_estimated_by_a_boot_that_does_not_begin_yet() -> None:
    net = Store()
    monitor, bob = off(net)["studio"], net.join("client", owner="bob", features=("queue", "done"))
    net.submit(bob, "before")
    net.phase(monitor, "starting")
    net.now += 6.0
    first = worker(net)
    net.say(bob, m.JobDone(request_id="before"))
    net.leave(first)
    net.phase(monitor, "off")
    ann = client(net)
    net.submit(ann)
    net.say(ann, d.DepotOffer(request_id="j1", files=(VIDEO,)))
    net.say(ann, d.DepotProgress(request_id="j1", left=VIDEO.size, rate=1e6))
    for _ in range(10):
        net.pass_time(1.0)
    last = net.heard(ann, m.Offline)[-1]
    assert (last.why or "").endswith("when the upload will be nearly done")
    assert last.eta_s is None


def test_the_next_upload_of_a_license_is_expected_to_be_as_fast_as_the_last_one() -> None:
    net, monitor, ann = resting()
    small = d.DepotFile(name="video", blake3="f" * 64, size=1_000_000)
    offer(net, ann)
    net.say(ann, d.DepotProgress(request_id="j1", left=40_000_000, rate=1000.0))
    offer(net, ann, "j2", (small,))
    net.pass_time(1)
    assert not woken(net, monitor), "its upload takes 1000 s, not one"
    net.say(ann, d.DepotProgress(request_id="j2", left=1_000_000, rate=1e6))
    net.pass_time(1)
    assert woken(net, monitor)


def test_a_submit_whose_files_will_be_offered_does_not_look_at_all_uploads() -> None:
    net, _, ann = resting()
    offer(net, ann)
    net.facts.clear()
    assert isinstance(net.submit(ann, "j2"), m.Offline)
    assert not [fact for fact in net.facts if isinstance(fact, f.Planned)]
    net.pass_time(1.0)
    assert [fact for fact in net.facts if isinstance(fact, f.Planned)]


def test_no_client_hears_that_a_machine_is_started_before_it_is() -> None:
    net, monitor, ann = resting()
    net.submit(ann)
    assert net.heard(ann, m.Offline)[-1].phase == "storing"
    net.say(ann, d.DepotOffer(request_id="j1", files=FILES))
    net.say(ann, d.DepotWithdraw(request_id="j1"))
    assert net.heard(ann, m.Offline)[-1].phase == "booting"
    assert woken(net, monitor)


def test_a_client_that_offers_nothing_wakes_a_machine_a_little_later() -> None:
    net = Store()
    monitor = off(net)["studio"]
    net.submit(client(net))
    net.pass_time(29.0)
    assert not woken(net, monitor)
    net.pass_time(2.0)
    assert woken(net, monitor)


@pytest.mark.parametrize("way", ["submitted", "an earlier client"])
def test_a_machine_is_woken_at_once_for_earlier_clients_or_if_the_operator_wants_that(way: str) -> None:
    net = Store(place=PlacePolicy(wake_when="submitted" if way == "submitted" else "ready"))
    monitor = off(net)["studio"]
    fd = client(net) if way == "submitted" else net.join("client", owner="ann", features=("queue", "done"))
    net.submit(fd)
    assert woken(net, monitor)


def test_an_upload_whose_client_is_gone_wakes_nothing_and_waits_for_its_pc() -> None:
    net, monitor, ann = resting()
    offer(net, ann)
    net.leave(ann)
    for _ in range(20):
        net.pass_time(60.0)
    assert not woken(net, monitor)
    assert "j1" in net.state.jobs
    ann = client(net)
    assert offer(net, ann).code is None


def test_a_machine_that_is_on_stops_when_an_upload_takes_longer_than_to_start_it_again() -> None:
    net, monitor, ann = resting()
    offer(net, ann)
    worker(net)
    for left, active in ((100_000_000, 1), (900_000_000, 0)):
        net.say(ann, d.DepotProgress(request_id="j1", left=left, rate=1e6))
        net.pass_time(1.0)
        assert net.use(monitor, gpu="studio").active_count == active


# Work without the client


@pytest.mark.parametrize("here", [True, False])
def test_a_stored_job_is_fetched_by_its_worker_and_its_client_gets_no_ack(here: bool) -> None:
    net, _, ann = resting()
    store(net, ann)
    if not here:
        net.leave(ann)
    one = worker(net)
    fetch = net.heard(one, d.DepotFetch)[0]
    assert fetch.payload == {
        "video_hash": VIDEO.blake3, "video_ext": ".mp4", "audio_hash": AUDIO.blake3, "audio_ext": ".wav",
    }  # fmt: skip
    assert (fetch.license, [each.have for each in fetch.files]) == ("ann", [True, True])
    assert seals(net, d.DepotFetch) == [f.Links("ann", "j1", "get")]
    assert not net.heard(one, m.Submit)
    assert not net.heard(one, m.DispatchBatch)
    if here:
        assert not net.heard(ann, m.Ack)
        assert [(each.step, each.gpu) for each in net.heard(ann, d.DepotProgress)] == [("wait", "studio")]
        net.say(one, d.DepotProgress(request_id="j1", step="render", percent=40.0))
        assert net.heard(ann, d.DepotProgress)[-1] == d.DepotProgress(
            request_id="j1", step="render", percent=40.0, gpu="studio"
        )


def test_the_hashes_of_a_job_of_any_kind_stand_beside_its_inputs() -> None:
    net, _, ann = resting()
    payload = {"kind": "paint", "inputs": {"video": {"ext": ".mp4"}, "audio": {}}, "params": {"seed": 5}}
    net.submit(ann, "j1", payload)
    net.say(ann, d.DepotOffer(request_id="j1", files=FILES, again=True))
    net.put("ann", *FILES)
    net.say(ann, d.DepotStored(request_id="j1"))
    fetch = net.heard(worker(net), d.DepotFetch)[0]
    assert fetch.again
    assert fetch.payload == {
        "kind": "paint", "params": {"seed": 5}, "inputs": {
            "video": {"hash": VIDEO.blake3, "ext": ".mp4"}, "audio": {"hash": AUDIO.blake3, "ext": ".wav"},
        },
    }  # fmt: skip


def test_a_worker_that_knows_no_depot_gets_a_stored_job_only_while_its_client_is_there() -> None:
    net, _, ann = resting()
    store(net, ann)
    net.leave(ann)
    one = worker(net, depot=False)
    assert not net.state.gpus["studio"].leases
    ann = client(net)
    assert isinstance(net.submit(ann), m.Ack)
    assert net.heard(one, m.Submit)
    net.leave(ann)
    ann = client(net)
    assert isinstance(net.submit(ann), m.Ack), "the client follows it at the worker, also after a reconnection"
    assert not net.heard(ann, d.DepotStored)


def test_the_owner_of_a_stored_job_that_no_gpu_can_do_is_told_when_it_comes_back() -> None:
    net, _, ann = resting()
    needs = {"requires": ["vram>4"]}
    net.submit(ann, "j1", needs)
    net.say(ann, d.DepotOffer(request_id="j1", files=FILES))
    net.put("ann", *FILES)
    net.say(ann, d.DepotStored(request_id="j1"))
    net.leave(ann)
    worker(net)  # it has no labels
    assert [*net.state.jobs] == ["j1"]
    assert net.reply(m.Error, client(net), "j1", needs).code == "unmet"
    assert net.state.jobs == {}


def test_a_stored_job_wakes_a_machine_also_when_its_client_is_gone() -> None:
    net, monitor, ann = resting()
    offer(net, ann, files=(d.DepotFile(name="video", blake3="a" * 64, size=900_000_000),))
    net.put("ann", d.DepotFile(name="video", blake3="a" * 64, size=900_000_000))
    net.slow = True
    net.say(ann, d.DepotStored(request_id="j1"))
    net.leave(ann)
    assert not woken(net, monitor)
    net.answer()
    assert woken(net, monitor)


@pytest.mark.parametrize("here", [True, False], ids=["client", "no client"])
def test_a_start_that_fails_ends_no_stored_job_and_is_tried_again_after_a_pause(here: bool) -> None:
    net, monitor, ann = resting()
    store(net, ann)
    if not here:
        net.leave(ann)
    starts = len(net.heard(monitor, m.Submit))
    assert starts
    for word in ("starting", "failed"):
        net.phase(monitor, word)
    net.say(monitor, m.BootResult(request_id="j1", success=False, status="failed", gpu="studio"))
    net.pass_time(55.0)
    assert "j1" in net.state.jobs
    assert len(net.heard(monitor, m.Submit)) == starts  # each try costs money, perhaps unseen
    net.pass_time(10.0)
    assert len(net.heard(monitor, m.Submit)) == starts + 1


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("said", [[], ["online"], ["booted", "failed"]])
def test_a_worker_that_stays_away_loses_its_job_whatever_its_monitor_says_of_the_machine(
    said: list[str], *, restart: bool
) -> None:
    net, _, one = fetching()
    if restart:
        net.restart()
    else:
        net.leave(one)
    monitor = net.monitor("studio", "release")
    for _ in range(59):
        net.pass_time(10.0)
        for state in said:
            net.phase(monitor, state)
    assert net.state.gpus["studio"].leases == {"j1": None}
    net.pass_time(11.0)
    assert net.state.gpus["studio"].leases == {}


def test_a_stored_job_that_waits_for_money_says_so_at_once() -> None:
    net, _, ann = resting(price=1.0, budgets={ALL: (0.0, None)})
    store(net, ann)
    assert [type(said) for said in net.sent[ann][-2:]] == [d.DepotStored, m.Offline]
    assert net.heard(ann, m.Offline)[-1].phase == "budget"


def test_the_lease_ends_with_the_delivery_and_the_client_hears_where_the_results_are() -> None:
    net, ann, one = delivered()
    assert not net.state.gpus["studio"].leases
    assert [each.have for each in net.heard(one, d.DepotPlaces)[0].files] == [False]
    assert net.heard(one, d.DepotStored)
    assert [(each.gpu, each.code, each.files[0].blake3) for each in net.heard(ann, d.DepotDelivered)] == [
        ("studio", None, RESULT.blake3)
    ]
    assert seals(net, d.DepotDelivered) == [f.Links("ann", "j1", "get")]


def test_results_that_are_not_all_there_are_no_delivery() -> None:
    net, ann, one = fetching()
    net.say(one, d.DepotDelivered(request_id="j1", files=(d.DepotPlace(**place(RESULT)),)))
    assert [each.have for each in net.heard(one, d.DepotPlaces)[0].files] == [False]
    net.fault = "down"
    net.say(one, d.DepotDelivered(request_id="j1", files=(d.DepotPlace(**place(RESULT)),)))
    assert codes(net, one)[-1] == "down"
    assert "j1" in net.state.gpus["studio"].leases
    assert not net.heard(ann, d.DepotDelivered)


def test_a_delivery_that_a_worker_repeats_while_it_is_checked_is_confirmed_again() -> None:
    net, ann, one = fetching()
    net.say(one, d.DepotOffer(request_id="j1", files=(RESULT,)))
    net.put("ann", RESULT)
    net.slow = True
    for _ in range(2):
        net.say(one, d.DepotDelivered(request_id="j1", files=(d.DepotPlace(**place(RESULT)),)))
    while net.asked:
        net.answer()
    assert (len(net.heard(one, d.DepotStored)), net.heard(one, d.DepotDelivered)) == (2, [])
    assert len(net.heard(ann, d.DepotDelivered)) == 1


def test_a_failure_of_the_work_is_kept_like_a_result() -> None:
    net, ann, one = fetching()
    net.leave(ann)
    net.say(one, d.DepotDelivered(request_id="j1", code="engine_error", reason="no frame"))
    assert net.heard(one, d.DepotStored)
    said = net.reply(d.DepotDelivered, client(net))
    assert (said.code, said.reason, said.gpu) == ("engine_error", "no frame", "studio")


def test_a_lease_without_its_client_lasts_as_long_as_its_worker_shows_work() -> None:
    net, ann, one = fetching()
    net.leave(ann)
    for _ in range(8):
        net.pass_time(3700.0)
        net.say(one, d.DepotProgress(request_id="j1", step="render"))
    assert "j1" in net.state.gpus["studio"].leases
    net.pass_time(6 * 3600.0 + 1)
    assert "j1" not in net.state.jobs


def test_new_links_cost_no_entry_in_the_journal() -> None:
    net, _, ann = resting()
    offer(net, ann)
    before = len(net.journal)
    net.say(ann, d.DepotOffer(request_id="j1", files=FILES))
    assert len(net.heard(ann, d.DepotPlaces)) == 2
    assert len(net.journal) == before


def test_an_input_that_is_gone_or_spoiled_is_removed_and_asked_for_again() -> None:
    net, ann, one = fetching()
    net.say(one, d.DepotDelivered(request_id="j1", code="gone", files=(d.DepotPlace(**place(VIDEO)),)))
    assert ("ann", VIDEO.blake3) not in net.files
    assert [each.have for each in net.heard(ann, d.DepotPlaces)[-1].files] == [False, True]
    assert not net.state.gpus["studio"].leases
    net.put("ann", VIDEO)
    net.say(ann, d.DepotStored(request_id="j1"))
    assert len(net.heard(one, d.DepotFetch)) == 2


@pytest.mark.parametrize("here", [True, False])
def test_a_gpu_that_cannot_use_the_depot_gives_the_job_back_and_gets_the_files_from_the_client(here: bool) -> None:
    net, monitor, ann = resting()
    store(net, ann)
    one = worker(net)
    if not here:
        net.leave(ann)
    net.say(one, d.DepotDelivered(request_id="j1", code="refused", reason="HTTP 403"))
    assert net.heard(one, d.DepotStored)
    if not here:  # no other PC has the files: the job ends with the reason, and is run again from its PC
        assert (net.state.delivered["j1"].code, net.state.delivered["j1"].reason) == ("refused", "HTTP 403")
        return
    assert net.heard(ann, d.DepotPlaces)[-1].code == "refused"
    assert "the GPU studio cannot use the depot: HTTP 403" in (net.heard(ann, d.DepotPlaces)[-1].reason or "")
    assert net.heard(ann, m.Ack)[-1].gpu == "studio"
    assert len(net.heard(one, d.DepotFetch)) == 1
    net.leave(one)
    net.phase(monitor, "off", "studio")
    net.pass_time(10.0)
    net.say(ann, d.DepotOffer(request_id="j1", files=FILES))
    assert codes(net, ann)[-1] == "refused"


def test_the_store_says_which_files_a_worker_cannot_get_because_they_are_gone() -> None:
    net, ann, one = fetching()
    net.say(one, d.DepotQuery(request_id="j1"))  # the depot refuses it, but has all: this may pass
    assert len(net.heard(one, d.DepotFetch)) == 2
    net.fault = "down"
    net.say(one, d.DepotQuery(request_id="j1"))
    assert len(net.heard(one, d.DepotFetch)) == 3
    net.fault = ""
    del net.files["ann", VIDEO.blake3]
    net.say(one, d.DepotQuery(request_id="j1"))
    assert net.heard(one, m.Cancel)
    assert [each.have for each in net.heard(ann, d.DepotPlaces)[-1].files] == [False, True]
    assert not net.state.gpus["studio"].leases
    assert ("ann", AUDIO.blake3) in net.files
    net.put("ann", VIDEO)
    net.say(ann, d.DepotStored(request_id="j1"))
    assert len(net.heard(one, d.DepotFetch)) == 4


def test_another_workers_job_is_not_delivered_and_one_that_ended_is_no_concern_of_a_worker_any_more() -> None:
    net, ann, _ = fetching()
    other = worker(net, "other")
    for message in (d.DepotOffer(request_id="j1", files=(RESULT,)), d.DepotDelivered(request_id="j1", code="x")):
        net.say(other, message)
    assert [each.code for each in net.heard(other, m.Error)] == ["forbidden", "forbidden"]
    net.say(ann, m.Cancel(request_id="j1"))
    net.say(other, d.DepotDelivered(request_id="j1", code="x"))
    assert net.heard(other, d.DepotStored)


# Faults


@pytest.mark.parametrize("at", ["storing", "stored", "held", "delivered"])
def test_a_hub_that_was_killed_goes_on_with_each_job_where_it_was(at: str) -> None:
    net, _, _ = at_step(at)
    net.restart()
    off(net)
    if at == "storing":
        ann = client(net)
        places = offer(net, ann)
        assert [each.have for each in places.files] == [False, False]
        net.put("ann", *FILES)
        net.say(ann, d.DepotStored(request_id="j1"))
    if at != "delivered":
        one = worker(net)
        assert len(net.heard(one, d.DepotFetch)) == 1
        deliver(net, one)
    assert net.reply(d.DepotDelivered, client(net)).files[0].blake3 == RESULT.blake3


@pytest.mark.parametrize("at", ["starting", "held"])
def test_a_restarted_hub_whose_monitor_says_that_the_gpu_is_off_has_nothing_to_wait_for(at: str) -> None:
    net, monitor, ann = resting()
    store(net, ann)
    net.pass_time(1.0)
    assert woken(net, monitor)
    net.phase(monitor, "starting")
    if at == "held":
        assert net.heard(worker(net), d.DepotFetch)
    net.restart()
    monitor = net.monitor("studio", "release")
    net.phase(monitor, "unknown")
    net.phase(monitor, "off")
    net.pass_time(1.0)
    assert woken(net, monitor)
    net.pass_time(1.0)
    assert len(net.heard(monitor, m.Submit)) == 1, "until that is answered"


def test_a_question_that_the_killed_hub_had_open_is_asked_again_by_its_client() -> None:
    net, _, ann = resting()
    offer(net, ann)
    net.put("ann", *FILES)
    net.slow = True
    net.say(ann, d.DepotStored(request_id="j1"))
    net.restart()
    net.slow = False
    ann = client(net)
    net.submit(ann)
    net.say(ann, d.DepotStored(request_id="j1"))
    assert net.heard(ann, d.DepotStored)


def test_a_gpu_that_is_off_gives_the_job_back_although_its_client_is_there_and_the_first_of_two_deliveries_counts() -> (
    None
):
    net = Store()
    monitors = off(net, "a", "b")
    ann = client(net)
    store(net, ann)
    one = worker(net, "a")
    net.leave(one)
    net.phase(monitors["a"], "off", "a")
    net.pass_time(6.0)
    two = worker(net, "b")
    assert net.heard(two, d.DepotFetch)
    again = worker(net, "a")
    assert net.heard(again, m.Cancel)
    deliver(net, again)
    assert net.heard(two, m.Cancel)
    assert [each.gpu for each in net.heard(ann, d.DepotDelivered)] == ["a"]
    deliver(net, two)
    assert net.heard(two, d.DepotStored)
    assert len(net.heard(ann, d.DepotDelivered)) == 1
    assert not net.state.gpus["b"].leases


def test_a_worker_that_is_back_is_told_its_job_again_and_one_that_stays_away_loses_it() -> None:
    net, _, ann = resting()
    store(net, ann)
    net.leave(worker(net))
    one = worker(net)
    assert len(net.heard(one, d.DepotFetch)) == 1
    assert not net.heard(ann, m.Ack)
    net.say(one, d.DepotQuery(request_id="j1"))
    assert len(net.heard(one, d.DepotFetch)) == 2
    net.leave(one)
    net.pass_time(601.0)
    assert "j1" in net.state.queue


@pytest.mark.parametrize("at", ["storing", "stored", "held", "delivered"])
@pytest.mark.parametrize("how", ["cancelled", "revoked"])
def test_a_job_that_is_cancelled_or_whose_license_is_revoked_ends_in_each_state(at: str, how: str) -> None:
    net, ann, one = at_step(at)
    if how == "cancelled":
        net.say(ann, m.Cancel(request_id="j1"))
        assert net.heard(ann, m.JobReleased)
    else:
        net.happen(f.Revoked("ann"))
        net.pass_time(61.0)
        assert not net.files
        assert not net.state.in_depot
    assert not net.state.jobs
    assert not net.state.delivered
    assert not net.state.stored
    if at == "held" and one is not None:
        assert net.heard(one, m.Cancel)


# Results that wait for their client


def test_a_delivered_job_is_on_record_until_its_client_confirms_it() -> None:
    net, ann, one = fetching()
    net.leave(ann)
    deliver(net, one)
    ann = client(net)
    assert isinstance(net.submit(ann), d.DepotDelivered)
    net.say(ann, d.DepotQuery(request_id="j1"))
    assert len(net.heard(ann, d.DepotDelivered)) == 2
    bob = client(net, "bob")
    assert net.submit(bob).code == "conflict"  # type: ignore[attr-defined]
    net.say(ann, m.JobDone(request_id="j1"))
    assert net.heard(ann, m.JobReleased)
    assert not net.state.delivered


def test_results_that_their_client_gives_up_leave_the_depot_so_that_spoiled_ones_are_not_taken_for_there() -> None:
    net, ann, _ = delivered()
    net.say(ann, m.Cancel(request_id="j1"))
    assert not net.state.delivered
    assert set(net.files) == {("ann", file.blake3) for file in FILES}


def test_a_client_of_an_earlier_version_that_submits_a_delivered_or_stored_job_gets_it_done_as_usual() -> None:
    net, _, one = delivered()
    old = net.join("client", owner="ann", features=("queue", "done"))
    assert isinstance(net.submit(old), m.Ack)
    assert net.heard(one, m.Submit)
    assert not net.state.delivered


@pytest.mark.parametrize("code", [None, "engine_error"])
@pytest.mark.parametrize("gpu", ["a", "b"])
def test_a_worker_that_lost_a_job_does_not_end_it_for_an_earlier_client(gpu: str, code: str | None) -> None:
    net = Store()
    monitors = off(net, "a", "b")
    ann = client(net)
    store(net, ann)
    one = worker(net, "a")
    net.leave(ann)
    if gpu == "b":
        net.leave(one)
        net.phase(monitors["a"], "off", "a")
        net.pass_time(6.0)
    old = net.join("client", owner="ann", features=("queue", "done"))
    net.submit(old)
    if gpu == "b":
        worker(net, "b")
        one = worker(net, "a")
    assert net.heard(old, m.Ack)[-1].gpu == gpu
    if code is None:
        deliver(net, one)
    else:
        net.say(one, d.DepotDelivered(request_id="j1", code=code))
    assert "j1" in net.state.gpus[gpu].leases
    assert net.heard(one, d.DepotStored)
    assert "j1" not in net.state.delivered
    net.say(old, m.JobDone(request_id="j1"))
    assert "j1" not in net.state.jobs


def test_a_late_answer_of_the_depot_does_not_disturb_a_job_at_a_worker_that_knows_no_depot() -> None:
    net = Store()
    off(net, "a", "b")
    ann = client(net)
    offer(net, ann)
    one = worker(net, "a", depot=False)
    assert not net.heard(ann, m.Ack)
    net.put("ann", *FILES)
    net.slow = True
    net.say(ann, d.DepotStored(request_id="j1"))
    net.say(ann, d.DepotStored(request_id="j1"))
    net.answer()
    assert net.heard(ann, m.Ack)[0].gpu == "a"
    net.files.clear()
    net.answer()
    assert not net.heard(one, d.DepotFetch)
    assert "j1" in net.state.gpus["a"].leases


def test_what_the_depot_says_of_a_job_is_not_taken_for_the_next_job_of_that_id() -> None:
    net, _, ann = resting()
    bob = client(net, "bob")
    offer(net, ann)
    net.put("ann", *FILES)
    net.slow = True
    net.say(ann, d.DepotStored(request_id="j1"))
    net.say(ann, m.Cancel(request_id="j1"))
    net.submit(bob)
    net.say(bob, d.DepotOffer(request_id="j1", files=FILES))
    while net.asked:
        net.answer()
    assert not net.heard(bob, d.DepotStored)
    assert [each.have for each in net.heard(bob, d.DepotPlaces)[-1].files] == [False, False]


def test_a_client_that_is_back_hears_that_the_hub_has_its_job() -> None:
    net, _, ann = resting()
    store(net, ann)
    net.leave(ann)
    ann = client(net)
    assert isinstance(net.submit(ann), d.DepotStored)
    assert isinstance(net.sent[ann][1], m.Offline)
    net.leave(ann)
    worker(net)
    ann = client(net)
    assert isinstance(net.submit(ann), d.DepotStored)
    assert net.sent[ann][1] == d.DepotProgress(request_id="j1", step="wait", gpu="studio")
    net.say(ann, d.DepotOffer(request_id="j1", files=FILES))
    assert not codes(net, ann)


def test_a_result_goes_after_its_time_and_its_owner_is_told_a_day_before() -> None:
    net, ann, _ = delivered(depot_keep=3 * DAY)
    due = int(net.now + 3 * DAY)
    net.pass_time(2 * DAY - 60)
    assert not net.heard(ann, d.DepotExpiring)
    net.pass_time(120.0)
    net.pass_time(120.0)
    assert net.heard(ann, d.DepotExpiring) == [d.DepotExpiring(jobs=("j1",), at=due)]
    net.pass_time(DAY)
    net.pass_time(61.0)
    assert not net.state.delivered
    assert not net.files


def test_a_result_that_was_removed_by_hand_is_told_once_and_its_job_ends() -> None:
    net = Store()
    one, ann = worker(net), client(net)
    net.submit(ann, "other")  # at work
    net.submit(ann, "other too")
    store(net, ann)
    net.say(ann, m.JobDone(request_id="other"))
    net.say(ann, m.JobDone(request_id="other too"))
    deliver(net, one)
    net.say(ann, d.DepotQuery(request_id="j1"))
    assert [each.code for each in net.heard(ann, d.DepotDelivered)] == [None, None]
    net.fault = "down"
    net.say(ann, d.DepotQuery(request_id="j1"))
    net.fault = ""
    net.files.clear()
    net.say(ann, d.DepotQuery(request_id="j1"))
    assert [each.code for each in net.heard(ann, d.DepotDelivered)] == [None, None, None, "lost"]
    assert "must run again" in (net.heard(ann, d.DepotDelivered)[-1].reason or "")
    assert RESULT.blake3 not in net.state.in_depot["ann"]
    net.say(ann, d.DepotQuery(request_id="j1"))
    assert codes(net, ann)[-1] == "unknown_job"


@pytest.mark.parametrize("asks", ["a try of another license", "its inputs, late"])
def test_results_are_not_taken_for_gone_by_an_answer_about_other_files(asks: str) -> None:
    net, ann, one = fetching()
    bob, net.slow = client(net, "bob"), True
    if asks == "its inputs, late":
        net.say(one, d.DepotQuery(request_id="j1"))
    late, net.asked[:], net.slow = [*net.asked], [], False
    deliver(net, one)
    if asks == "a try of another license":
        net.say(bob, d.DepotOffer(request_id="j1", files=(PROBE,)))
    net.asked += late
    net.pass_time(1.0)
    net.say(ann, d.DepotQuery(request_id="j1"))
    assert [said.code for said in net.heard(ann, d.DepotDelivered)] == [None, None]
    assert not net.heard(bob, d.DepotDelivered)


def test_a_file_that_a_late_link_puts_after_its_removal_is_removed_again() -> None:
    net, _, ann = resting()
    offer(net, ann)
    net.put("ann", *FILES)
    net.say(ann, m.Cancel(request_id="j1"))
    net.say(ann, d.DepotRemove(request_id="r", files=(VIDEO.blake3, AUDIO.blake3)))
    assert not net.files
    net.put("ann", *FILES)
    offer(net, ann, "j2", (AUDIO,))  # this one is wanted again
    net.pass_time(3600.0)
    assert ("ann", VIDEO.blake3) in net.files
    net.fault = "down"
    net.pass_time(200.0)
    net.fault = ""
    net.pass_time(120.0)
    assert [*net.files] == [("ann", AUDIO.blake3)]
    assert not net.state.removed
    assert VIDEO.blake3 not in net.state.in_depot["ann"]


def test_a_stored_job_that_no_gpu_does_is_given_up_after_the_time_that_files_are_kept() -> None:
    net, _, ann = resting(depot_keep=3 * DAY)
    store(net, ann)
    net.leave(ann)
    net.pass_time(2 * DAY)
    assert "j1" in net.state.jobs
    net.pass_time(DAY + 61)
    assert "j1" not in net.state.jobs


# What a license has there


def test_files_that_nothing_needs_make_room_and_others_count_against_the_quota() -> None:
    net, _, ann = resting(depot_quota=120_000_000)
    store(net, ann)
    more = d.DepotFile(name="video", blake3="e" * 64, size=80_000_000)
    assert offer(net, ann, "j2", (more,)).code == "quota"
    net.say(ann, m.Cancel(request_id="j1"))
    assert offer(net, ann, "j3", (more,)).code is None
    assert ("ann", VIDEO.blake3) not in net.files
    bob = client(net, "bob")
    assert offer(net, bob, "j4").code is None


@pytest.mark.parametrize("bucket", [True, False])
def test_a_removal_says_until_when_links_of_a_bucket_still_work_and_then_removes_what_came_late(bucket: bool) -> None:
    net = Store(depot=bucket)
    off(net)
    if not bucket:
        own(net)
    ann = client(net)
    offer(net, ann)
    net.put("ann", VIDEO)
    net.say(ann, d.DepotOffer(request_id="j1", files=(VIDEO, AUDIO)))
    net.say(ann, m.Cancel(request_id="j1"))
    net.say(ann, d.DepotList(request_id="l"))
    net.say(ann, d.DepotRemove(request_id="r", files=(VIDEO.blake3,)))
    shown, removed = net.heard(ann, d.DepotListed)
    assert shown.late is None
    if not bucket:
        assert removed.late is None
        return
    assert removed.late is not None
    assert removed.late > net.now + 3600.0, "a link works for an hour"
    net.pass_time(3600.0)
    net.put("ann", VIDEO)
    net.pass_time(removed.late - net.now - 1.0)
    assert ("ann", VIDEO.blake3) in net.files
    net.pass_time(depot_files.EVERY + 2.0)
    assert ("ann", VIDEO.blake3) not in net.files


def test_a_license_lists_and_removes_its_own_files_but_not_those_of_open_jobs() -> None:
    net = Store(depot_quota=1_000_000_000)
    off(net)
    ann, bob = client(net), client(net, "bob")
    store(net, ann)
    for fd in (ann, bob):
        net.say(fd, d.DepotList(request_id="l"))
    listed = net.heard(ann, d.DepotListed)[0]
    assert (listed.count, listed.size, listed.quota, listed.more) == (2, 50_000_000, 1_000_000_000, False)
    assert [(each["blake3"], each["ext"], each["size"]) for each in listed.files] == [
        (VIDEO.blake3, ".mp4", VIDEO.size), (AUDIO.blake3, ".wav", AUDIO.size),
    ]  # fmt: skip
    assert net.heard(bob, d.DepotListed)[0].count == 0
    for fd in (bob, ann):
        net.say(fd, d.DepotRemove(request_id="r", files=(VIDEO.blake3,)))
    assert len(net.files) == 2
    net.say(ann, m.Cancel(request_id="j1"))
    net.say(ann, d.DepotRemove(request_id="r", files=(VIDEO.blake3,)))
    assert [*net.files] == [("ann", AUDIO.blake3)]
    assert net.heard(ann, d.DepotListed)[-1].count == 1
    net.fault = "down"
    net.say(ann, d.DepotRemove(request_id="r", files=(AUDIO.blake3,)))
    assert net.heard(ann, m.Error)[-1].code == "down"


def test_a_long_list_comes_in_pages() -> None:
    net = Net(depot=True)
    many = tuple(d.DepotFile(name="x", blake3=f"{n:064x}", size=1) for n in range(150))
    hub.DECIDER.evolve(net.state, f.DepotUsed("ann", many, net.now))
    ann, seen = client(net), list[str]()
    while not seen or net.heard(ann, d.DepotListed)[-1].more:
        net.say(ann, d.DepotList(request_id="l", after=seen[-1] if seen else None))
        seen += [each["blake3"] for each in net.heard(ann, d.DepotListed)[-1].files]
    assert seen == [each.blake3 for each in many]


def test_files_that_are_not_used_for_long_are_removed_and_a_file_that_is_offered_meanwhile_stays() -> None:
    net, _, ann = resting(depot_keep=3 * DAY)
    store(net, ann)
    net.say(ann, m.Cancel(request_id="j1"))
    net.pass_time(3 * DAY)
    assert len(net.files) == 2
    net.slow = True
    net.pass_time(60.0)
    net.submit(ann, "j2")
    net.say(ann, d.DepotOffer(request_id="j2", files=(VIDEO,)))
    net.answer()
    net.answer()
    assert net.state.in_depot["ann"].keys() == {VIDEO.blake3}
    assert [each.have for each in net.heard(ann, d.DepotPlaces)[-1].files] == [False]


@pytest.mark.parametrize("by", ["room", "rm"])
def test_results_that_are_removed_while_their_delivery_is_checked_are_put_again(by: str) -> None:
    net, ann, one = fetching(depot_quota=60_000_000)
    big = replace(RESULT, size=10_000_000)
    net.say(one, d.DepotOffer(request_id="j1", files=(big,)))
    net.put("ann", big)
    net.slow = True
    net.say(one, d.DepotDelivered(request_id="j1", files=(d.DepotPlace(**place(big)),)))
    if by == "rm":
        net.say(ann, d.DepotRemove(request_id="r", files=(big.blake3,)))
    else:
        net.leave(net.worker("busy"))
        net.submit(ann, "j2")
        net.say(ann, d.DepotOffer(request_id="j2", files=(replace(VIDEO, blake3="e" * 64, size=9_000_000),)))
    while net.asked:
        net.answer()
    net.slow = False
    assert not net.heard(ann, d.DepotDelivered), "its links would lead to nothing"
    assert [each.have for each in net.heard(one, d.DepotPlaces)[-1].files] == [False]
    net.put("ann", big)
    net.say(one, d.DepotDelivered(request_id="j1", files=(d.DepotPlace(**place(big)),)))
    assert net.heard(ann, d.DepotDelivered)
    assert ("ann", big.blake3) in net.files


def test_a_worker_that_lacks_an_input_has_no_other_files_removed() -> None:
    net, ann, one = delivered()
    net.leave(one)
    net.phase(net.monitor("studio"), "off")
    store(net, ann, "j2")
    one = worker(net)
    gone = (d.DepotPlace(**place(VIDEO)), d.DepotPlace(**place(RESULT)))
    net.say(one, d.DepotDelivered(request_id="j2", code="gone", files=gone))
    assert [*net.files] == [("ann", AUDIO.blake3), ("ann", RESULT.blake3)]


# Our own depot


def own(net: Net, owner: str = "dep", **more: Any) -> int:
    return net.join("depot", owner=owner, url="http://d:1", features=("capability",), **more)


def test_our_own_depot_serves_the_hub_while_it_is_connected() -> None:
    net = Store(depot=False)
    off(net)
    early = net.join("client", owner="ann", features=("queue", "depot"))
    assert d.FEATURE not in net.heard(early, m.Registered)[0].features  # type: ignore[operator]
    fd = own(net, gpu="cellar")
    assert (net.state.depot_url, net.state.depot_name) == ("http://d:1", "cellar")
    assert seals(net, m.Registered)[-1] == f.Seal()
    ann = client(net)
    assert offer(net, ann).code is None
    net.happen(f.Revoked("bob"))
    assert net.heard(fd, m.LicenseRevoked)
    net.leave(fd)
    assert net.state.depot_url is None
    assert offer(net, ann, "j2").code == "down"
    assert net.heard(own(net), m.LicenseRevoked)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("back", [True, False])
def test_after_a_restart_of_the_hub_uploads_wait_for_our_own_depot_for_a_while(back: bool, told: bool) -> None:
    net = Store(depot=False)
    off(net)
    own(net)
    ann = client(net)
    offer(net, ann)
    net.restart()
    monitor, ann = off(net)["studio"], client(net)
    net.submit(ann)
    net.say(ann, d.DepotOffer(request_id="j1", files=FILES))
    net.put("ann", *FILES)
    if told:
        net.say(ann, d.DepotProgress(request_id="j1", left=0, rate=1e6))
    net.say(ann, d.DepotStored(request_id="j1"))
    net.pass_time(5.0)
    assert not codes(net, ann)
    if back:
        own(net)
        assert [each.have for each in net.heard(ann, d.DepotPlaces)[0].files] == [True, True]
        net.say(ann, d.DepotStored(request_id="j1"))
        assert net.heard(ann, d.DepotStored)
    else:
        net.pass_time(11.0)
        assert codes(net, ann) == ["down"]
        assert woken(net, monitor)


def test_uploads_whose_depot_stays_away_go_the_direct_way_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depot, "A_TICK", 2, raising=False)
    net = Store(depot=False)
    off(net)
    own(net)
    net.restart()
    off(net)
    ann = client(net)
    for number in range(3):
        net.submit(ann, f"j{number}")
        net.say(ann, d.DepotOffer(request_id=f"j{number}", files=FILES))
    for direct in (2, 3):
        net.pass_time(16.0)
        assert sum(job.direct for job in net.state.jobs.values()) == direct


def test_a_client_that_came_before_the_first_depot_learns_of_it_by_the_answer_to_its_next_job() -> None:
    net = Store(depot=False)
    off(net)
    ann, old = client(net), net.join("client", owner="bob", features=("queue",))
    before = net.submit(ann, "j1")
    own(net)
    after, plain = net.submit(ann, "j2"), net.submit(old, "j3")
    assert [each.depot for each in (before, after, plain) if isinstance(each, m.Offline)] == [None, True, None]
    net.say(ann, d.DepotOffer(request_id="j2", files=FILES))
    assert codes(net, ann) == [None]
    net.say(ann, d.DepotWithdraw(request_id="j2"))
    assert net.heard(ann, m.Offline)[-1].depot is None


def test_a_hub_has_one_depot() -> None:
    net = Net()
    first = own(net)
    assert net.closed[own(net, "another")]
    second = own(net)
    assert first in net.closed
    assert net.state.depot == second
    net.leave(second)
    net.restart()
    assert net.closed[own(net, "another")]
    net.happen(f.BookSeen(released=(("dep", net.now),)))
    assert own(net, "another") == net.state.depot
    net = Net(depot=True)
    assert net.closed[own(net)]


# A try of the depot without a job

PROBE = d.DepotFile(name=d.PROBE, blake3="e" * 64, size=d.MOST_OF_PROBE)


def test_a_client_may_try_the_depot_with_one_small_file_and_remove_it() -> None:
    net = Store()
    ann = client(net)
    net.say(ann, d.DepotOffer(request_id="try", files=(PROBE,)))
    assert seals(net, d.DepotPlaces) == [f.Links("ann", "try", "put")]
    net.put("ann", PROBE)
    net.say(ann, d.DepotOffer(request_id="try", files=(PROBE,)))
    assert [file.blake3 for file in net.heard(ann, d.DepotDelivered)[0].files] == [PROBE.blake3]
    assert seals(net, d.DepotDelivered) == [f.Links("ann", "try", "get")]
    net.say(ann, d.DepotRemove(request_id="try", files=(PROBE.blake3,)))
    assert (net.files, net.heard(ann, d.DepotListed)[-1].count) == ({}, 0)
    assert not net.state.jobs


@pytest.mark.parametrize(("files", "code"), [(10_000, "down"), (0, "quota")])
def test_a_try_that_the_depot_refuses_says_why(files: int, code: str) -> None:
    net = Store(depot_files=files)
    net.fault = "down"
    ann = client(net)
    net.say(ann, d.DepotOffer(request_id="try", files=(PROBE,)))
    assert codes(net, ann) == [code]


def test_the_file_of_a_try_goes_soon_if_its_client_does_not_remove_it() -> None:
    net = Store()
    ann = client(net)
    off(net)
    offer(net, ann)
    net.put("ann", *FILES)
    net.say(ann, d.DepotOffer(request_id="doctor", files=(PROBE,)))
    net.put("ann", PROBE)
    net.pass_time(500.0)
    assert ("ann", PROBE.blake3) in net.files
    net.pass_time(200.0)
    assert {blake3 for _, blake3 in net.files} == {VIDEO.blake3, AUDIO.blake3}


@pytest.mark.parametrize("more", [{"size": d.MOST_OF_PROBE + 1}, {"name": "video"}])
def test_other_files_without_a_job_are_refused(more: dict[str, Any]) -> None:
    net = Store()
    ann = client(net)
    net.say(ann, d.DepotOffer(request_id="try", files=(d.DepotFile(**{**place(PROBE), **more}),)))
    assert codes(net, ann) == ["unknown_job"]


def test_a_job_goes_to_the_gpu_that_had_one_with_the_same_file_though_another_comes_first_by_name() -> None:
    net = Store()
    ann = client(net)
    store(net, ann, "j1")
    second = worker(net, "b")
    assert [each.request_id for each in net.heard(second, d.DepotFetch)] == ["j1"]
    deliver(net, second, "j1")
    other = d.DepotFile(name="audio", blake3="d" * 64, ext=".wav", size=10)
    net.leave(second)
    store(net, ann, "like", (VIDEO, other))
    store(net, ann, "unlike", (other,))
    for _ in range(2):
        net.pass_time(1.0)
    net.phase(net.monitor("a"), "off", "a")
    for gpu in ("a", "b"):
        net.state.gpus[gpu].suspended = "a person"
    fds = {gpu: worker(net, gpu) for gpu in ("a", "b")}
    for gpu in fds:
        net.state.gpus[gpu].suspended = ""
    net.pass_time(1.0)
    assert {gpu: [each.request_id for each in net.heard(fd, d.DepotFetch)] for gpu, fd in fds.items()} == {
        "a": ["unlike"], "b": ["like"],
    }  # fmt: skip
