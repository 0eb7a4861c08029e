"""Whatever peers send, in whatever order: the hub never fails or contradicts itself, and answers each submit."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.streams.hub_net import restarted
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub, placement
from wakestream.streams.hub.state import Connection, HubJob
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

FDS = range(1, 6)
ids = st.sampled_from(["a", "b", "c", "d"])
gpus = st.sampled_from(["one", "two"])
maybe_gpu = st.none() | gpus
flag = st.sampled_from([None, True])
states = st.sampled_from(
    ["unknown", "off", "starting", "booted", "online", "draining", "stopping", "no_capacity", "failed", "nonsense"]
)
any_kind = st.builds(
    lambda kind: {"kind": kind, "inputs": {}, "params": {}, "outputs": ["x"]}, st.sampled_from(["paint", "join"])
)
kinds = st.builds(lambda name: {"name": name, "outputs": [{"name": "x"}]}, st.sampled_from(["paint", "join", "No"]))
FILE = d.DepotFile(name="video", blake3="a" * 64, size=9)
answers = st.builds(
    f.DepotAnswered,
    st.builds(
        f.AskDepot,
        st.sampled_from(["open", "check", "check", "remove"]),
        st.sampled_from(["id-k1", "id-k2"]),
        ids,
        st.integers(0, 6),
        st.just((FILE,)),
        st.sampled_from(["", "", "one"]),
    ),
    st.sampled_from([{}, {FILE.blake3: 9}, {FILE.blake3: 9}]),
    st.sampled_from(["", "", "down"]),
)
from_clients = st.one_of(
    st.builds(m.Submit, request_id=ids, payload=any_kind),
    st.builds(m.Submit, request_id=ids),
    st.builds(m.Submit, request_id=ids),
    st.builds(m.Cancel, request_id=ids),
    st.builds(m.JobDone, request_id=ids),
    st.builds(m.Boot, request_id=st.none() | ids),
    st.builds(m.StatusQuery, request_id=ids),
    st.builds(m.KindsQuery, request_id=ids),
    st.builds(m.GpuAdmin, request_id=ids, gpu=gpus, action=st.sampled_from(["stop", "keep", "hold", "resume"])),
    st.builds(m.JobOrder, jobs=st.lists(ids, max_size=4).map(tuple)),
    st.builds(d.DepotOffer, request_id=ids, files=st.just((FILE,))),
    st.builds(d.DepotProgress, request_id=ids, left=st.sampled_from([None, -5, 9, 10**12]), rate=st.just(1e6)),
    st.builds(d.DepotRemove, request_id=ids, files=st.just((FILE.blake3,))),
    *(st.builds(kind, request_id=ids) for kind in (d.DepotStored, d.DepotWithdraw, d.DepotQuery, d.DepotList)),
)
from_workers = st.one_of(
    st.builds(m.Online, url=st.none() | st.just("http://w:1")),
    st.builds(m.Online, url=st.none() | st.just("http://w:1")),
    st.builds(m.Result, request_id=ids, key=st.none() | st.sampled_from(["k1", "k2"]), sender_fd=st.integers(1, 6)),
    st.builds(m.TaskActive, task_id=ids),
    st.builds(m.GpuKinds, number=st.integers(0, 2), of=st.integers(0, 2), kind=st.none() | kinds),
    st.just(m.Url(url="http://x")),
    st.builds(d.DepotOffer, request_id=ids, files=st.just((FILE,))),
    st.builds(d.DepotProgress, request_id=ids, step=st.just("render")),
    st.builds(d.DepotDelivered, request_id=ids, code=st.sampled_from([None, "gone", "failed"])),
    st.builds(d.DepotQuery, request_id=ids),
)
from_monitors = st.one_of(
    st.builds(m.Booted, gpu=maybe_gpu, request_id=st.none() | ids),
    st.builds(m.BootResult, request_id=st.none() | ids, success=st.booleans(), gpu=maybe_gpu),
    st.builds(m.PowerState, gpu=gpus, state=states),
    st.builds(m.PowerState, gpu=gpus, state=states, url=st.sampled_from([None, "http://a:1", "http://b:2"])),
    st.builds(m.PowerState, gpu=gpus, state=states, url_follows=st.just(True)),
    st.builds(m.TaskQuery, request_id=ids, gpu=maybe_gpu, drain=flag),
    st.builds(m.StatusResponse, request_id=ids, status=st.just("running")),
)
relayed = st.builds(
    lambda kind, **frame: m.Unknown(type=kind, frame={"type": kind, **frame}),
    st.sampled_from([
        "result", "chatglm_video", "chatglm_video_result", "mobile_task", "mobile_task_result", "sync",
        "gpu.task.progress",
    ]),
    license=st.sampled_from([None, "id-k1", "id-k2", 7]),
    sender_fd=st.sampled_from([None, *FDS, True, "1"]),
    request_id=st.none() | ids,
    content=st.sampled_from([None, "words", ["words"]]),
    target_device=st.sampled_from([None, "pc", "mobile", {}]),
)  # fmt: skip
oddities = st.sampled_from([m.Unknown(type="x"), m.Ping(), m.Pong(), m.Error(msg="?")])
anything = st.one_of(from_clients, from_workers, from_monitors, relayed, oddities)
fds = st.sampled_from(FDS)
announced = st.sampled_from(
    [None, ("capability",), ("inputs",), ("inputs", "kinds", "depot"), ("queue", "depot"), ("queue", "done")]
)
registers = st.one_of(
    st.builds(
        lambda fd, who, new: f.Registering(
            fd, m.Register(key=who, features=new), who, f.License(f"id-{who}", "client")
        ),
        fds,
        st.sampled_from(["k1", "k2"]),
        announced,
    ),
    st.builds(
        lambda fd, gpu, who, new: f.Registering(
            fd, m.Register(role="worker", gpu=gpu, features=new), who, f.License(who, "worker")
        ),
        fds,
        maybe_gpu,
        st.sampled_from(["w1", "w2"]),
        announced,
    ),
    st.builds(
        lambda fd, names: f.Registering(
            fd, m.Register(role="gpu_monitor", gpus=names), "m", f.License("id-m", "monitor")
        ),
        fds,
        st.none() | st.tuples(gpus),
    ),
)
in_role = st.one_of(
    st.builds(f.Received, st.sampled_from([1, 2, 2, 5]), from_clients, st.booleans()),
    st.builds(f.Received, st.sampled_from([1, 2, 5]), from_clients, st.booleans()),
    st.builds(f.Received, st.just(3), from_workers),
    st.builds(f.Received, st.just(4), from_monitors),
    answers,
)
coming_and_going = st.one_of(
    st.builds(f.Opened, fds),
    st.builds(f.Closed, fds),
    registers,
    registers,
    st.builds(f.Unreadable, fds, st.just("no")),
    st.builds(f.Received, fds, anything, st.booleans()),
    st.just(f.Tick()),
)
rare = st.one_of(
    st.builds(f.Revoked, st.sampled_from(["id-k1", "w1", "id-m"])),
    st.builds(
        f.BookSeen,
        st.sampled_from(
            [(), (("w1", "worker", ("one",)),), (("w2", "worker", ("one",)), ("id-m", "monitor", ("two",)))]
        ),
        st.sampled_from([(), (("w1", 1e9), ("id-m", 1e9))]),
        st.sampled_from([(), (("id-k1", 3),)]),
    ),
    st.builds(f.KeyEnded, fds),
    st.just(f.ProcessStarted()),
)
events: st.SearchStrategy[f.Event] = st.integers(0, 19).flatmap(
    lambda roll: rare if roll == 19 else coming_and_going if roll >= 14 else in_role
)

# Most sequences begin with everybody there: two clients of one key, one of another, a worker and a monitor.
CAST: list[f.Event] = [
    *(f.Opened(fd) for fd in FDS),
    *(
        f.Registering(fd, m.Register(key=who), who, f.License(f"id-{who}", "client"))
        for fd, who in ((1, "k1"), (5, "k2"))
    ),
    f.Registering(2, m.Register(key="k1", features=("queue", "done", "depot")), "k1", f.License("id-k1", "client")),
    f.Registering(3, m.Register(role="worker", gpu="one", features=("depot",)), "w1", f.License("w1", "worker")),
    f.Registering(4, m.Register(role="gpu_monitor", gpus=("one",)), "m", f.License("id-m", "monitor")),
]
rest = st.lists(st.tuples(events, st.sampled_from([0.0, 1.0, 5.0, 700.0])), min_size=20, max_size=60)
steps = st.builds(
    lambda cast, tail: [*((event, 0.0) for event in cast), *tail], st.sampled_from([CAST, CAST, []]), rest
)


def told(commands: list[f.Command], request_id: str) -> set[str]:
    """The types that were sent about one job."""
    sent = [command.message for command in commands if not isinstance(command, f.Close)]
    return {message.TYPE for message in sent if getattr(message, "request_id", None) == request_id}


def well_ended(
    state: hub.HubState, job: HubJob, event: f.Event, fact: f.JobRemoved, commands: list[f.Command], kept: set[str]
) -> bool:
    """Whether the job's client knows that it ended, or ended it, or is gone."""
    match fact.why:
        case "boot_failed":
            return m.BootResult.TYPE in told(commands, fact.id)
        case "result":
            return m.Result.TYPE in told(commands, fact.id) or fact.id in kept
        case "unsupported" | "unknown_kind":
            return m.Error.TYPE in told(commands, fact.id)
        case "delivered":
            return isinstance(event, f.Received | f.DepotAnswered)
        case "cancelled" | "done":
            return isinstance(event, f.Received)
        case "expired":
            here = state.of_owner(job.owner)
            return m.Error.TYPE in told(commands, fact.id) or not here or job.gpu is not None
        case why:
            return why == "revoked" and isinstance(event, f.Revoked)


def given_to_workers(commands: list[f.Command]) -> set[str]:
    """The jobs that workers are given."""
    sent = [command.message for command in commands if isinstance(command, f.Send | f.Broadcast)]
    return {job["request_id"] for message in sent if isinstance(message, m.DispatchBatch) for job in message.jobs}


def coherent(state: hub.HubState) -> bool:
    """Whether queue, leases and jobs tell the same story."""
    waiting = {job.id for job in state.jobs.values() if job.gpu is None}
    held = {job.id: job.gpu for job in state.jobs.values() if job.gpu is not None}
    leases = {id_: gpu.name for gpu in state.gpus.values() for id_ in gpu.leases}
    arrivals = [state.jobs[id_].seq for id_ in state.queue]
    connected = all(job.fd is None or job.fd in state.connections for job in state.jobs.values())
    away = {job.id for job in state.jobs.values() if job.gpu is None and job.gone is not None and not job.stored}
    indexed = waiting == set(state.queue) and arrivals == state.arrivals and away == state.absent.keys()
    stored = {job.id for job in state.jobs.values() if job.stored}
    return indexed and held == leases and connected and stored == state.stored.keys()


def placed(state: hub.HubState) -> bool:
    """Whether late jobs wait in line, none where it may be done at once, and no GPU has more than it may have."""
    late = [job for job in state.jobs.values() if job.late]
    lined = {id_ for line in state.lines.values() for id_ in line}
    counts = Counter(job.gpu for job in late if job.gpu is not None)
    most = {gpu.name: gpu.slots + state.limits.place.ahead for gpu in state.gpus.values()}
    free = [gpu for gpu in state.gpus.values() if gpu.online and gpu.ready and len(gpu.leases) < gpu.slots]
    can_start = [job for job in map(state.jobs.__getitem__, lined) if job.depot is None or job.stored]
    idle = [(gpu, job) for gpu in free for job in can_start]
    return (
        lined == {job.id for job in late if job.gpu is None and (job.stored or job.fd in state.connections)}
        and state.early.keys() == {job.id for job in state.jobs.values() if job.gpu is None and not job.late}
        and all(counts[name] <= most[name] for name in most)
        and not any(placement.may(state, gpu, state.need_of(job)) for gpu, job in idle)
    )


def answered_at_once(event: f.Event, connected: bool, commands: list[f.Command]) -> bool:
    """Whether a submit has one answer; one that the hub has stored is also told where it is."""
    if not (isinstance(event, f.Received) and isinstance(event.message, m.Submit) and connected):
        return True
    answers = [c.message.TYPE for c in commands if isinstance(c, f.Send) and c.fd == event.fd]  # type: ignore[union-attr]
    if answers[0] == d.DepotStored.TYPE:
        answers = answers[1:] if answers[1] != d.DepotProgress.TYPE else [m.Ack.TYPE]
    usual = (m.Ack.TYPE, m.Offline.TYPE, m.JobQueued.TYPE, m.Error.TYPE, d.DepotDelivered.TYPE)
    return len(answers) == 1 and answers[0] in usual


def may_hear(peer: Connection, command: f.Send) -> bool:
    """Whether keys and capabilities in it are for this peer."""
    capable, text = "capability" in peer.features, wire.encode(command.message)
    if isinstance(command.seal, f.Links):
        sealed = peer.role == "worker" or peer.owner == command.seal.owner
    else:
        sealed = command.seal is None or capable
    no_key = not (capable and peer.role == "worker") or '"key":"k' not in text
    return sealed and no_key and (capable or "capability" not in text)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_no_sequence_of_events_fails_or_loses_a_job_or_tells_a_secret(sequence: list[tuple[f.Event, float]]) -> None:
    state = hub.HubState(hub.Limits(depot=True))
    now = 0.0
    rows, journal, open_fds = list[bytes](), list[f.Fact](), set[int]()
    for event, seconds in sequence:
        now += seconds
        if isinstance(event, f.ProcessStarted):
            before, (state, rows), journal = state, restarted(state, rows, journal, now), []
            assert (state.jobs.keys(), state.holders) == (before.jobs.keys(), before.holders)
            open_fds.clear()
        if isinstance(event, f.Opened) and event.fd in open_fds:
            continue
        open_fds |= {event.fd} if isinstance(event, f.Opened) else set()
        open_fds -= {event.fd} if isinstance(event, f.Closed) else set()
        jobs, connected = dict(state.jobs), isinstance(event, f.Received) and event.fd in state.connections
        facts, commands = hub.DECIDER.step(state, event, now)
        journal += [fact for fact in facts if fact.DURABLE]
        kept = {fact.result.request_id for fact in facts if isinstance(fact, f.ResultKept)}
        for fact in facts:
            if isinstance(fact, f.JobRemoved):
                assert well_ended(state, jobs[fact.id], event, fact, list(commands), kept), (event, fact)
        released = {fact.id for fact in facts if isinstance(fact, f.JobRemoved)}
        assert jobs.keys() - state.jobs.keys() == released & jobs.keys()
        granted = {fact.id: fact.gpu for fact in facts if isinstance(fact, f.JobGranted)}
        assert granted.items() <= {job.id: job.gpu for job in state.jobs.values()}.items()
        assert all(state.jobs[id_].gpu is not None for id_ in given_to_workers(commands))
        assert answered_at_once(event, connected, commands), (event, commands)
        for command in commands:
            if isinstance(command, f.Send) and (peer := state.connections.get(command.fd)) is not None:
                assert may_hear(peer, command), (peer, command)
        assert coherent(state)
        assert placed(state)
