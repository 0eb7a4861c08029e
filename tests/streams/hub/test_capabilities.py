"""Which messages of the hub bear a capability: to whom, until when, and what workers get instead of the key."""

from typing import Any

import pytest

from tests.support.streams import hub_net
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.secrets import REDACTED

HOLD = ("capability", "done")


class Net(hub_net.Net):
    """Peers announce features; `of` are the frames of one kind to a connection, as the decider wrote them."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(now=1000.0, **limits)

    def join(self, role: str, *features: str, owner: str | None = None, **more: Any) -> int:
        return super().join(role, owner=owner, features=features or None, **more)

    def worker(self, *features: str) -> int:
        fd = self.join("worker", *features, gpu="gpu", url="http://w:1")
        self.say(fd, m.Online())
        return fd

    def of(self, fd: int, kind: type[m.Message]) -> list[f.Send]:
        return [c for c in self.commands if isinstance(c, f.Send) and c.fd == fd and isinstance(c.message, kind)]


@pytest.fixture
def net() -> Net:
    return Net()


def frame(send: f.Send) -> dict[str, Any]:
    return wire.to_frame(send.message)


def test_an_ack_has_a_capability_if_client_and_worker_announced_it(net: Net) -> None:
    net.worker("capability")
    client = net.join("client", *HOLD)
    net.submit(client)
    (ack,) = net.of(client, m.Ack)
    assert ack.seal == f.Seal("gpu", "id-client")
    assert frame(ack)["data"]["capability"] == REDACTED
    assert frame(ack)["data"]["capability_expires"] == 1900


@pytest.mark.parametrize(("of_client", "of_worker"), [((), ("capability",)), (HOLD, ()), ((), ())])
def test_a_peer_that_did_not_announce_it_gets_no_new_fields(net: Net, of_client: Any, of_worker: Any) -> None:
    net.worker(*of_worker)
    client = net.join("client", *of_client)
    net.submit(client)
    (ack,) = net.of(client, m.Ack)
    assert (ack.seal, frame(ack)["data"].keys()) == (None, {"gpu", "url", "position"})


def test_a_hub_that_gives_none_announces_none() -> None:
    net = Net(capability_ttl=0)
    worker, client = net.worker("capability"), net.join("client", *HOLD)
    net.submit(client)
    for fd in (worker, client):
        assert "capability" not in frame(net.of(fd, m.Registered)[0])["features"]
    assert [one.seal for one in (*net.of(client, m.Ack), *net.of(worker, m.Registered))] == [None, None]


def test_only_a_worker_that_announced_it_gets_the_hubs_key(net: Net) -> None:
    capable, plain, client = net.worker("capability"), net.join("worker", gpu="b"), net.join("client", *HOLD)
    shown = [net.of(fd, m.Registered)[0].seal for fd in (capable, plain, client)]
    assert shown == [f.Seal(), None, None]


@pytest.mark.parametrize(
    ("features", "told"), [(("capability",), {"license": "id-client"}), ((), {"key": "key-id-client"})]
)
def test_a_worker_with_capabilities_gets_the_license_of_a_job_and_an_old_one_its_key(
    net: Net, features: Any, told: Any
) -> None:
    client = net.join("client", *HOLD)
    net.submit(client, "queued")
    worker = net.worker(*features)
    net.submit(client, "at-once")
    (batch,), (submit,) = net.of(worker, m.DispatchBatch), net.of(worker, m.Submit)
    for job in (frame(batch)["data"]["jobs"][0], frame(submit)):
        assert job["sender_fd"] == client
        assert {name: job[name] for name in ("license", "key") if name in job} == told
    assert ("key-id-client" in str([wire.to_frame(message) for message in net.sent[worker]])) == ("key" in told)


def test_a_result_that_names_the_license_finds_its_other_connections_and_shows_them_no_id(net: Net) -> None:
    worker, first, second = net.worker("capability"), net.join("client", *HOLD), net.join("client")
    net.submit(first)
    net.say(first, m.JobDone(request_id="j1"))
    net.happen(f.Closed(first))
    net.say(worker, m.Result(request_id="j1", license="id-client", sender_fd=first, result={}))
    (result,) = net.of(second, m.Result)
    assert frame(result).keys() == {"type", "request_id", "result"}


def test_a_result_for_an_absent_license_is_not_stored(net: Net) -> None:
    worker = net.worker("capability")
    net.say(worker, m.Result(request_id="j1", license="id-of-nobody", result={}))
    assert net.state.kept == {}


def test_a_capability_is_renewed_before_it_ends_while_the_job_holds_its_gpu() -> None:
    net = Net(capability_ttl=900.0)
    net.worker("capability")
    client = net.join("client", *HOLD)
    net.submit(client)
    net.pass_time(599)
    assert net.of(client, m.Capability) == []
    net.pass_time(1)
    (renewal,) = net.of(client, m.Capability)
    assert renewal.seal == f.Seal("gpu", "id-client")
    assert frame(renewal) == {
        "type": "gpu.job.capability", "request_id": "j1", "capability": REDACTED, "expires": 2500,
    }  # fmt: skip
    net.pass_time(1)
    assert len(net.of(client, m.Capability)) == 1
    net.pass_time(600)
    assert len(net.of(client, m.Capability)) == 2


def test_a_released_job_or_one_without_a_client_gets_no_renewal(net: Net) -> None:
    net.worker("capability")
    client, other = net.join("client", *HOLD), net.join("client", *HOLD, owner="other")
    net.submit(client, "given-back")
    net.submit(other, "gone")
    net.say(client, m.JobDone(request_id="given-back"))
    net.happen(f.Closed(other))
    net.pass_time(601)
    assert net.of(client, m.Capability) == net.of(other, m.Capability) == []
    assert net.state.capabilities == {}


def test_a_client_that_comes_back_is_given_a_fresh_one_with_its_ack(net: Net) -> None:
    net.worker("capability")
    first = net.join("client", *HOLD)
    net.submit(first)
    net.happen(f.Closed(first))
    net.pass_time(300)
    second = net.join("client", *HOLD)
    net.submit(second)
    (ack,) = net.of(second, m.Ack)
    assert (ack.seal, frame(ack)["data"]["capability_expires"]) == (f.Seal("gpu", "id-client"), 2200)


def test_workers_get_revocations_at_once_or_when_they_connect_soon_after(net: Net) -> None:
    old = net.join("worker", gpu="old")
    worker, client = net.worker("capability"), net.join("client", *HOLD)
    net.submit(client)
    net.happen(f.Revoked("id-client"))
    assert net.of(old, m.LicenseRevoked) == []
    assert [frame(one)["license"] for one in net.of(worker, m.LicenseRevoked)] == ["id-client"]
    assert [frame(one)["request_id"] for one in net.of(worker, m.Cancel)] == ["j1"]
    assert net.closed == {client: hub.FORBIDDEN}
    net.happen(f.Closed(worker))
    again = net.worker("capability")
    assert [frame(one)["license"] for one in net.of(again, m.LicenseRevoked)] == ["id-client"]
    net.pass_time(1000)
    net.happen(f.Closed(again))
    assert net.of(net.worker("capability"), m.LicenseRevoked) == []


def test_a_worker_that_announced_it_gets_ended_jobs_and_their_licenses(net: Net) -> None:
    worker, client = net.worker("capability", "done"), net.join("client", *HOLD)
    net.submit(client)
    net.say(client, m.JobDone(request_id="j1", license="somebody else"))
    (word,) = net.of(worker, m.JobDone)
    assert frame(word) == {"type": "gpu.job.done", "request_id": "j1", "license": "id-client"}
    net.say(client, m.JobDone(request_id="j1"))
    assert len(net.of(worker, m.JobDone)) == 1
    net.submit(client, "j2")
    net.say(client, m.Cancel(request_id="j2", license="somebody else"))
    net.say(client, m.Cancel(request_id="j1", license="somebody else"))  # one that had let its GPU go for a while
    assert [(frame(one)["request_id"], frame(one)["license"]) for one in net.of(worker, m.Cancel)] == [
        ("j2", "id-client"), ("j1", "id-client"),
    ]  # fmt: skip


@pytest.mark.parametrize("features", [(), ("capability",), ("done",)])
def test_other_workers_get_no_done_and_the_usual_cancel(net: Net, features: Any) -> None:
    worker, client = net.worker(*features), net.join("client", *HOLD)
    for id_, word in (("j1", m.JobDone(request_id="j1")), ("j2", m.Cancel(request_id="j2"))):
        net.submit(client, id_)
        net.say(client, word)
    net.say(client, m.Cancel(request_id="j1", license="somebody else"))
    assert net.of(worker, m.JobDone) == []
    assert [frame(one) for one in net.of(worker, m.Cancel)] == [
        {"type": "gpu.job.cancel", "request_id": id_} for id_ in ("j2", "j1")
    ]


def test_a_reconnected_worker_gets_ended_jobs_before_its_own_jobs(net: Net) -> None:
    worker, client = net.worker("capability", "done"), net.join("client", *HOLD)
    net.submit(client, "over")
    net.submit(client, "holds")
    net.submit(client, "again")
    net.happen(f.Closed(worker))
    for id_ in ("over", "again"):
        net.say(client, m.JobDone(request_id=id_))
    net.submit(client, "again")
    back = net.worker("capability", "done")
    assert [frame(one) for one in net.of(back, m.JobDone)] == [
        {"type": "gpu.job.done", "request_id": "over", "license": "id-client"}
    ]
    (batch,) = net.of(back, m.DispatchBatch)
    assert {job["request_id"] for job in frame(batch)["data"]["jobs"]} == {"holds", "again"}
    assert net.commands.index(net.of(back, m.JobDone)[0]) < net.commands.index(batch)
    assert net.of(net.worker("capability"), m.JobDone) == []
