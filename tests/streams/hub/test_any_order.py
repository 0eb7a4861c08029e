"""Whatever peers, machines, disk, clock and process do, in whatever order: the hub does not fail or contradict itself.

What must hold at each step is in `checked_hub`. In the end all goes well again, and then each open job ends.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from msgspec import structs

from tests.support.streams.checked_hub import Checked, Shifted
from wakestream.streams.hub import events as f
from wakestream.streams.hub import placement
from wakestream.streams.hub.power import STATES
from wakestream.streams.hub.state import ALL, Budgets, WarmHours
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

T = TypeVar("T")

HOSTS = {"a": "box", "b": "box", "c": "small"}
GPUS = tuple(HOSTS)
CLIENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "deployed": ("ann", ()),
    "early": ("ann", ("inputs", "done")),
    "late": ("ann", ("queue", "done", "released", "kinds", "capability", "gpu_admin")),
    "depot": ("bob", ("queue", "done", "depot", "released", "capability", "gpu_admin")),
    "admin": ("boss", ("queue", "done", "depot", "hub_status", "gpu_admin")),
}
WORKERS: dict[str, tuple[str, ...]] = {
    "deployed": (),
    "early": ("range", "inputs", "capability"),
    "new": ("range", "inputs", "depot", "capability", "worker_state", "job_work", "job_state", "monitor_state"),
}
MONITOR = ("power_state", "power_age", "machines", "release")
ROGUE = "rogue"
FILE, RESULT, TRY = (
    d.DepotFile(name=name, blake3=digit * 64, size=9)
    for name, digit in (("audio", "a"), ("frame", "f"), (d.PROBE, "e"))
)

IDS = ("j1", "ann-1", "bob-1", "bob-2")
PLAIN: dict[str, Any] = {"kind": "paint", "inputs": {}, "params": {}, "outputs": ["x"]}
PAYLOADS = [*({},) * 5, {"gpus": ["a"]}, {"gpus": ["x"]}, {"priority": -1}, {"requires": ["vram>4"]}, PLAIN, PLAIN]
KINDS = [{"name": name, "outputs": [{"name": "x"}]} for name in ("paint", "paint", "join", "No")]
FROM_CLIENTS: list[m.Message] = [
    *(kind(request_id=id_) for kind in (m.Cancel, m.JobDone, d.DepotStored, d.DepotWithdraw) for id_ in IDS),
    *(kind(request_id="j1") for kind in (m.StatusQuery, m.KindsQuery, m.HubStatusQuery, d.DepotQuery, d.DepotList)),
    *(m.Boot(request_id=id_, gpu=gpu) for id_, gpu in ((None, "a"), ("j1", None), ("b", "b"))),
    *(m.JobOrder(jobs=ids) for ids in (IDS, IDS[::-1])),
    *(d.DepotOffer(request_id=id_, files=(FILE,), again=again) for id_ in IDS for again in (None, True)),
    d.DepotOffer(request_id="try", files=(TRY,)),
    *(d.DepotProgress(request_id="j1", left=left, rate=1e6) for left in (None, -5, 9, 10**12)),
    d.DepotRemove(request_id="j1", files=(FILE.blake3, RESULT.blake3)),
]
FROM_WORKERS: list[m.Message] = [
    *(m.Online(url=url) for url in (None, "http://w:1")),
    *(m.Result(request_id=id_, license=of, sender_fd=7) for id_ in IDS for of in (None, "ann", "ann")),
    m.Result(request_id="j1", key="key-ann"),
    m.TaskActive(task_id="j1"),
    *(
        m.JobWork(request_id="j1", seconds=seconds, ended=ended)
        for seconds in (0.0, 0.0, 1.0, 1e6)
        for ended in (None, True)
    ),
    *(m.JobState(request_id="j1", state=state, seconds=1.0) for state in ("open", "done", "done", "failed", "unknown")),
    *(m.GpuKinds(number=number, of=1, kind=kind) for number, kind in enumerate((*KINDS, None))),
    *(m.WorkerState(gpu="a", state=state) for state in ("ready", "ready", "not_ready", "paused")),
    m.Url(url="http://x"),
    *(d.DepotOffer(request_id=id_, files=(RESULT,)) for id_ in IDS),
    d.DepotProgress(request_id="j1", step="render"),
    *(d.DepotQuery(request_id=id_) for id_ in IDS),
]
FROM_MONITORS: list[m.Message] = [
    *(m.TaskQuery(request_id="q", gpu=gpu, drain=True, idle=idle) for gpu in (None, *GPUS) for idle in (None, True)),
    *(m.StatusResponse(request_id="j1", status="running", fresh=fresh) for fresh in (None, True)),
]
POWER: list[m.Message] = [
    *(m.Booted(gpu=gpu, request_id="j1") for gpu in (None, "a")),
    *(m.BootResult(gpu=gpu, request_id="j1", success=done) for gpu in (None, *GPUS) for done in (False, False, True)),
    *(m.PowerState(gpu=gpu, state=state) for gpu in GPUS for state in (*STATES, "nonsense")),
    *(m.PowerState(gpu=gpu, state="online", url=url) for gpu in GPUS for url in ("http://a:1", "http://b:2")),
    *(m.PowerState(gpu="a", state=state, url_follows=True, age=40) for state in ("starting", "online", "off")),
    *(m.PowerState(gpu=gpu, state="no_capacity", retry_in=30) for gpu in GPUS),
    *(m.PowerState(gpu=gpu, state="online", orphan=True, msg="by hand") for gpu in GPUS),
]
RELAYED: list[m.Message] = [
    m.Unknown(type=kind, frame={"type": kind, "license": of, "sender_fd": fd, "content": text, "target_device": device})
    for kind in ("result", "chatglm_video", "chatglm_video_result", "mobile_task", "mobile_task_result", "sync", "x")
    for of, fd, text, device in ((None, None, "words", "pc"), ("ann", 3, ["words"], {}), ("bob", True, None, "mobile"))
]
TEXTS = [
    m.Unknown(type=kind, frame={"type": kind, "license": of, "content": "words"})
    for kind, of in (("chatglm_video", None), ("chatglm_video_result", "ann"), ("chatglm_video_result", "bob"))
]
STRANGE = [*RELAYED, m.Ping(), m.Pong(), m.Error(msg="?"), *FROM_CLIENTS, *FROM_WORKERS, *FROM_MONITORS, *POWER]

TIED = [(), (("w-a", "worker", ("a",)),), (("w-b", "worker", ("a",)), ("m-box", "monitor", ("b",)))]
SAID_LAST = [*FROM_CLIENTS, *(m.Submit(request_id=id_) for id_ in IDS)]

OF_JOBS = (
    *("queue", "arrivals", "wanted", "early", "absent", "lines", "jobs_of", "stored", "uploads", "saving", "leaving"),
    *("connections", "clients", "monitors", "by_owner", "keys", "asked", "capabilities", "kept"),
)

clients, workers, gpus = st.sampled_from([*CLIENTS]), st.sampled_from([*WORKERS]), st.sampled_from(GPUS)
ids = st.sampled_from(["{}-1", "{}-2", "{}-3", "{}-4", "j1"])
picks = st.integers(0, 59)


def chosen(known: Iterable[T], pick: int) -> T:
    all_ = [*known]
    return all_[pick % len(all_)]


def about(message: m.Message, known: list[str], pick: int) -> m.Message:
    """The message, mostly about jobs that its sender has."""
    at = pick % len(known) if known and pick % 6 else None
    if at is None:
        return message
    if isinstance(message, m.JobOrder):
        return m.JobOrder(jobs=(*known[at:], *known[:at]))
    return structs.replace(message, request_id=known[at]) if hasattr(message, "request_id") else message


class Watch:
    """A monitor of one GPU. It knows since when the machine is on or off, and the end of a pause.

    `said` is the last of the machine's turns that it has reported.
    """

    def __init__(self, world: "World", gpu: str) -> None:
        self.world, self.gpu, self.fd = world, gpu, -1
        self.off_at: float | None = None
        self.said = 0

    @property
    def machine(self) -> "Machine":
        return self.world.machines[HOSTS[self.gpu]]

    @property
    def here(self) -> bool:
        return self.fd in self.world.net.state.connections

    def comes(self, *, new: bool) -> None:
        net, machine = self.world.net, self.machine
        hosts = {self.gpu: machine.name} if len(machine.watches) > 1 else None
        self.fd = net.join("monitor", owner=f"m-{machine.name}", gpus=(self.gpu,), features=MONITOR, machines=hosts)
        if new and self.here:
            net.phase(self.fd, "unknown", self.gpu)
        elif machine.on and self.off_at is not None and self.here:
            net.phase(self.fd, "off", self.gpu, age=machine.world.t - self.off_at)
        self.off_at = None
        self.reports()

    def reports(self, *words: str) -> None:
        """Say how the machine is; while it is on, also that it goes through some states."""
        machine = self.machine
        ready = ("online",) if self.world.worker(self.gpu) is not None else ()
        for word in ("booted", *words, *ready) if machine.on else ("off",):
            if self.here:
                self.said = machine.turn
                self.world.net.phase(self.fd, word, self.gpu, age=self.world.t - machine.since)

    def goes(self) -> None:
        if self.here:
            self.world.net.leave(self.fd)

    def does_as_it_is_told(self) -> None:
        """Start the machine, or stop it if no job needs it."""
        net = self.world.net
        words = net.sent.pop(self.fd, ()) if self.here else ()
        if self.machine.on and any(isinstance(word, m.Release) for word in words):
            net.say(self.fd, m.TaskQuery(request_id="q", drain=True))
            answers = net.heard(self.fd, m.TaskQueryResponse)  # none if another monitor of the machine stops it
            if answers and answers[0].active_count == 0 and not answers[0].has_recent_active:
                self.machine.switches(told=True)
        elif not self.machine.on and any(isinstance(word, m.Boot | m.Submit) for word in words):
            self.machine.switches(told=True)


class Machine:
    """What is true of a machine: whether it is on, since when, and for how long it ran."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.on, self.since, self.turn, self.ran = False, world.t, 0, 0.0
        self.watches = [world.watches[gpu] for gpu, host in HOSTS.items() if host == name]

    def switches(self, *, told: bool = False) -> None:
        """It is switched on or off, unless a monitor that is away would not know of the time before."""
        for watch in self.watches:
            if not watch.here and (watch.off_at is not None or watch.said != self.turn):
                return
            if watch.said != self.turn:  # it has seen the last switch by now
                watch.reports()
        self.on, self.since, self.turn = not self.on, self.world.t, self.turn + 1
        for watch in self.watches:
            watch.off_at = self.world.t if not (watch.here or self.on) else watch.off_at
            if not self.on:
                self.world.worker_goes(watch.gpu)
        for watch in self.watches if told else ():
            watch.reports()

    def account(self) -> float:
        """What the ledger says, when one monitor at least is there, and those that are have reported."""
        if not any(watch.here for watch in self.watches):
            self.watches[0].comes(new=False)
        for watch in self.watches:
            if not watch.here and self.world.worker(watch.gpu) is not None:
                watch.comes(new=False)
            watch.reports()
        net = self.world.net
        accounts = {id(gpu.account): gpu.account for gpu in net.state.gpus.values() if HOSTS.get(gpu.name) == self.name}
        return sum(each.gpus * each.ran(0.0, net.now, net.limits.zone) for each in accounts.values())


class World(RuleBasedStateMachine):
    """Its seconds are whole ones: `t` goes on steadily, the wall clock of the hub may be set.

    `honest`: monitors say what is true, perhaps late, and no license loses its GPU; so the ledger must be right.
    `faithful`: clients come back in the end; else the hub ends what it has taken over, and forgets the rest.
    """

    HUB = Checked

    @initialize(
        honest=st.booleans(),
        faithful=st.booleans(),
        money=st.booleans(),
        issued=st.booleans(),
        awake=st.booleans(),
        busy=st.booleans(),
        depot=st.sampled_from(["", "own", "bucket", "bucket"]),
    )
    def begins(
        self, *, honest: bool, faithful: bool, money: bool, issued: bool, awake: bool, busy: bool, depot: str
    ) -> None:
        self.honest, self.faithful, self.depot = honest, faithful, depot
        more: dict[str, Any] = {"prices": {"a": 1.0, "b": 2.0, "c": 3.0}}
        if money and self.HUB is Checked:
            more["budgets"] = Budgets({ALL: (4.0, None), "a": (1.0, 2.0)})
            more |= {"license_budget": 0.5, "keep_warm": WarmHours({"c": ("daily 00:00-06:00",)}), "webhook": True}
        begin = 1_774_659_000.0  # an hour before a change to summer time
        more |= {"zone": "Europe/Berlin", "abandoned": 1e9, "depot": depot == "bucket", "depot_keep": 1e9}
        self.net = self.HUB(begin, ROGUE, **more)
        self.t = 0.0
        self.connected: dict[str, int] = {}
        self.depot_fd = -1
        self.watches = {gpu: Watch(self, gpu) for gpu in GPUS}
        self.machines = {name: Machine(self, name) for name in HOSTS.values()}
        if issued:
            self.net.happen(f.BookSeen(tuple((f"w-{gpu}", "worker", (gpu,)) for gpu in GPUS), (), (("bob", 3),)))
        for gpu, watch in self.watches.items():
            self.net.leave(self.net.join("worker", owner=f"w-{gpu}", gpu=gpu))
            watch.comes(new=True)
        self.own_depot_comes()
        self.goes_to_work(awake=awake, busy=busy)

    def goes_to_work(self, *, awake: bool, busy: bool) -> None:
        if busy:
            for id_ in ("{}-1", "{}-2") if self.depot else ():
                self.stores("depot", id_, 3)
            for who in CLIENTS:
                self.submits(who, "{}-3", {})
        if awake:
            for machine in self.machines.values():
                machine.switches(told=True)
            for gpu in GPUS:
                self.a_healthy_worker_comes(gpu)
        elif busy:  # some monitors may not know the first wakes
            for watch in self.watches.values():
                watch.goes()
                watch.comes(new=False)
        if busy:
            self.end("bob-1")

    # Time, disk and process

    def passes(self, seconds: float, *, up: bool = True) -> None:
        self.t += seconds
        for machine in self.machines.values():
            machine.ran += seconds * machine.on
        self.net.now += seconds
        if up:
            self.net.happen(f.Tick())

    @rule(seconds=st.sampled_from([0.0, 1.0, 1.0, 5.0, 20.0, 31.0, 100.0, 700.0, 3000.0, 3000.0]))
    def time_passes(self, seconds: float) -> None:
        self.passes(seconds)

    @rule(by=st.sampled_from([-86_400.0, -600.0, 600.0, 7_000.0]))
    def the_clock_is_set(self, by: float) -> None:
        self.passes(0.0)
        self.net.set_clock(by)

    @rule(seconds=st.sampled_from([0.0, 3.0, 3000.0]), who=clients, message=st.sampled_from([None] * 30 + SAID_LAST))
    def the_hub_is_killed(self, seconds: float, who: str, message: m.Message | None) -> None:
        """Perhaps after it has written what a message led to, and before it sends the answers."""
        if message is not None:
            fd = self.client(who)
            self.net.silent = True
            self.net.say(fd, message)
        else:
            self.passes(0.0)
        self.passes(seconds, up=False)
        self.restarts()

    def restarts(self) -> None:
        self.net.silent = False
        for watch in self.watches.values():
            watch.fd = -1
        self.connected.clear()
        self.net.restart()
        self.own_depot_comes()

    @rule(low=st.sampled_from([*[False] * 7, True]))
    def a_snapshot_is_written(self, *, low: bool) -> None:
        self.net.check_money()
        self.net.writes_a_snapshot()
        self.net.happen(f.DiskSeen(low))

    @precondition(lambda self: self.net.state.news)
    @rule(pick=picks)
    def a_webhook_is_delivered(self, pick: int) -> None:
        delivery = chosen(self.net.state.news, pick)
        self.net.happen(f.NewsSettled(delivery))
        assert delivery not in self.net.state.news

    # Clients

    def client(self, who: str) -> int:
        """The connection of a client, which comes if it is not here."""
        owner, features = CLIENTS[who]
        if self.connected.get(who) not in self.net.state.connections:
            role = "admin" if who == "admin" else "client"
            self.connected[who] = self.net.join(role, owner=owner, features=features or None)
        return self.connected[who]

    @rule(who=clients, id_=ids, payload=st.sampled_from(PAYLOADS))
    def submits(self, who: str, id_: str, payload: dict[str, Any]) -> None:
        id_ = id_.format(CLIENTS[who][0])
        self.net.say(self.client(who), m.Submit(request_id=id_, payload=payload))

    @rule(who=clients, message=st.sampled_from([*FROM_CLIENTS, *RELAYED]), pick=picks)
    def a_client_says(self, who: str, message: m.Message, pick: int) -> None:
        fd = self.client(who)
        self.net.say(fd, about(message, self.jobs_of(CLIENTS[who][0]), pick))

    def jobs_of(self, owner: str) -> list[str]:
        """The jobs of a license that are open, delivered, or were at a GPU and wait again."""
        state = self.net.state
        left = [id_ for id_, (of, _) in state.recently_released.items() if of == owner]
        return [*state.jobs_of.get(owner, ()), *state.delivered_of.get(owner, ()), *left]

    @rule(
        who=st.sampled_from(["depot", "depot", "late", "early"]),
        kind=st.sampled_from([m.Cancel, m.JobDone]),
        pick=picks,
    )
    def a_client_ends_a_job(self, who: str, kind: type[m.Cancel | m.JobDone], pick: int) -> None:
        if known := self.jobs_of(CLIENTS[who][0])[::-1]:
            self.net.say(self.client(who), kind(request_id=chosen(known, pick)))

    @rule(gpu=gpus, action=st.sampled_from(["stop", "keep", "hold", "hold", "resume", "remove"]), force=st.booleans())
    def a_person_orders(self, gpu: str, action: str, *, force: bool) -> None:
        if not (self.honest and action == "remove"):  # its costs would go, too
            order = m.GpuAdmin(request_id="order", gpu=gpu, action=action, force=force)
            self.net.say(self.client("admin"), order)

    @precondition(lambda self: self.net.state.clients)
    @rule(pick=picks)
    def a_client_goes(self, pick: int) -> None:
        self.net.leave(chosen(self.net.state.clients, pick))

    @rule(who=st.sampled_from(["depot", "depot", "admin"]), id_=ids, steps=st.sampled_from([1, 2, 3, 3]))
    def stores(self, who: str, id_: str, steps: int) -> None:
        """A client stores the files of a job, or some of that."""
        fd, id_ = self.client(who), id_.format(CLIENTS[who][0])
        if id_ not in self.net.state.jobs:
            self.net.say(fd, m.Submit(request_id=id_))
        self.net.say(fd, d.DepotOffer(request_id=id_, files=(FILE,)))
        if steps > 1:
            self.net.put(CLIENTS[who][0], FILE)
        if steps > 2:
            self.net.say(fd, d.DepotStored(request_id=id_))

    # Workers

    def worker(self, gpu: str) -> int | None:
        known = self.net.state.gpus.get(gpu)
        return known.worker if known is not None else None

    def worker_goes(self, gpu: str) -> None:
        if (fd := self.worker(gpu)) is not None:
            self.net.leave(fd)

    @rule(gpu=gpus, kind=workers, named=st.sampled_from([True, True, False]), slots=st.sampled_from([None, 1, 2]))
    def a_worker_comes(self, gpu: str, kind: str, *, named: bool, slots: int | None) -> None:
        machine = self.machines[HOSTS[gpu]]
        if self.honest and not (named and machine.on and self.worker(gpu) is None):
            return
        name, url = gpu if named else None, None if kind == "deployed" else "http://w:1"
        fd = self.net.join("worker", owner=f"w-{gpu}", gpu=name, url=url, features=WORKERS[kind] or None, slots=slots)
        self.net.say(fd, m.Online())

    def a_healthy_worker_comes(self, gpu: str) -> None:
        fd = self.net.join("worker", owner=f"w-{gpu}", gpu=gpu, url="http://w:1", features=WORKERS["new"])
        self.net.say(fd, m.WorkerState(gpu=gpu, state="ready"))
        self.net.say(fd, m.Online())

    @property
    def working(self) -> dict[str, int]:
        """The GPUs whose worker is here, and its connection."""
        return {gpu.name: gpu.worker for gpu in self.net.state.gpus.values() if gpu.worker is not None}

    @precondition(lambda self: self.working)
    @rule(pick=picks, seconds=st.sampled_from([0.0, 0.0, 700.0]))
    def a_worker_goes(self, pick: int, seconds: float) -> None:
        self.net.leave(chosen(self.working.values(), pick))
        self.passes(seconds)

    @precondition(lambda self: self.working)
    @rule(message=st.sampled_from(FROM_WORKERS), pick=picks)
    def a_worker_says(self, message: m.Message, pick: int) -> None:
        gpu = chosen(self.working, pick // 6)
        self.net.say(self.working[gpu], about(message, [*self.net.state.gpus[gpu].leases], pick))

    @precondition(lambda self: not self.net.given.keys().isdisjoint(self.working))
    @rule(pick=picks, code=st.sampled_from([None, None, "gone", "refused", "engine_error"]))
    def delivers(self, pick: int, code: str | None) -> None:
        """A worker delivers one of the jobs that it was ever given, perhaps one that another has by now."""
        gpu = chosen([gpu for gpu in self.working if gpu in self.net.given], pick // 6)
        self.deliver(self.working[gpu], chosen(self.net.given[gpu], pick), code)

    def deliver(self, fd: int, id_: str, code: str | None = None) -> None:
        for owner in ("bob", "boss"):
            self.net.put(owner, RESULT)
        files = (FILE,) if code else (RESULT,)
        places = tuple(d.DepotPlace(name=file.name, blake3=file.blake3, size=file.size) for file in files)
        self.net.say(fd, d.DepotDelivered(request_id=id_, files=places, code=code))

    @property
    def held(self) -> list[str]:
        return [*chain(*(gpu.leases for gpu in self.net.state.gpus.values()))]

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def a_job_ends(self, pick: int) -> None:
        self.end(chosen(self.held, pick))

    def end(self, id_: str) -> None:
        """A job comes to its usual end, if a GPU holds it."""
        net = self.net
        job = net.state.jobs.get(id_)
        gpu = net.state.gpus.get(job.gpu or "") if job is not None else None
        if job is None or gpu is None:
            return
        if gpu.fetches(job):
            if gpu.worker is not None:
                self.deliver(gpu.worker, id_)
            return
        for who, (owner, features) in CLIENTS.items():
            if owner == job.owner and self.connected.get(who) == job.fd and "done" in features:
                net.say(self.client(who), m.JobDone(request_id=id_))
                return
        if gpu.worker is not None:
            net.say(gpu.worker, m.Result(request_id=id_, license=job.owner, result={}))

    @rule(who=clients, message=st.sampled_from(TEXTS))
    def a_text_is_asked_for_or_comes(self, who: str, message: m.Unknown) -> None:
        """A text worker never says that its GPU is online."""
        if message.type == "chatglm_video":
            self.net.say(self.client(who), message)
            return
        if self.connected.get("text") not in self.net.state.connections:
            self.connected["text"] = self.net.join("worker", owner="w-text")
            self.passes(1.0)
        self.net.say(self.connected["text"], message)

    # Monitors and machines

    @rule(host=st.sampled_from(["box", "small"]), told=st.booleans())
    def a_machine_is_switched(self, host: str, *, told: bool) -> None:
        self.machines[host].switches(told=told)

    @rule(gpu=gpus, words=st.sampled_from([(), ("online",), ("online", "draining"), ("online", "stopping")]))
    def a_monitor_reports(self, gpu: str, words: tuple[str, ...]) -> None:
        self.watches[gpu].reports(*words)

    @rule(gpu=gpus, how=st.sampled_from(["away", "killed", "back", "back"]), seconds=st.sampled_from([0.0, 20.0, 70.0]))
    def a_monitor_goes_or_comes(self, gpu: str, how: str, seconds: float) -> None:
        watch = self.watches[gpu]
        if how == "away":
            watch.goes()
        elif how == "back" and not watch.here:
            watch.comes(new=False)
        elif how == "killed" and watch.here and watch.said == watch.machine.turn:
            watch.goes()
            self.passes(seconds)
            watch.comes(new=True)

    @rule(gpu=gpus, message=st.sampled_from([*FROM_MONITORS, *POWER]))
    def a_monitor_says(self, gpu: str, message: m.Message) -> None:
        """It asks, or says anything of the power."""
        if self.watches[gpu].here and not (self.honest and message in POWER):
            self.net.say(self.watches[gpu].fd, message)

    @rule(seconds=st.sampled_from([1.0, 1.0, 20.0]))
    def all_goes_on(self, seconds: float) -> None:
        self.goes_on(seconds)

    # The depot

    def own_depot_comes(self) -> None:
        if self.depot == "own":
            self.depot_fd = self.net.join("depot", owner="d", url="https://d:1", features=("capability",))

    @precondition(lambda self: self.depot)
    @rule(
        fault=st.sampled_from(["", "", "down", "full"]), slow=st.booleans(), lost=st.sampled_from([False, False, True])
    )
    def the_depot_falters(self, fault: str, *, slow: bool, lost: bool) -> None:
        """It refuses, answers late, has lost its files, or goes; or it is well again."""
        self.net.fault, self.net.slow = fault, slow
        if lost:
            self.net.files.clear()
        if self.net.asked:
            self.net.answer()
        if self.depot_fd in self.net.state.connections and fault:
            self.net.leave(self.depot_fd)
        elif self.depot_fd not in self.net.state.connections:
            self.own_depot_comes()

    @precondition(lambda self: self.depot)
    @rule(
        asked=st.sampled_from(["open", "check"]),
        owner=st.sampled_from(["ann", "bob"]),
        gpu=st.sampled_from(["", "", *GPUS]),
        file=st.sampled_from([FILE, RESULT, TRY]),
        there=st.booleans(),
        pick=picks,
    )
    def a_late_answer_comes(
        self, asked: Any, owner: str, gpu: str, file: d.DepotFile, pick: int, *, there: bool
    ) -> None:
        """The depot answers what a client or a worker asked, whose connection is gone or another one's now."""
        state = self.net.state
        known = [*self.jobs_of("ann"), *self.jobs_of("bob"), "try"]
        id_, fd = chosen(known, pick), chosen([*state.connections, 0], pick // 2)
        if not gpu or (gpu in state.gpus and owner in state.gpus[gpu].served):
            question = f.AskDepot(asked, owner, id_, fd, (file,), gpu)
            self.net.happen(f.DepotAnswered(question, {file.blake3: file.size} if there else {}))

    # Licenses

    @rule(
        tied=st.sampled_from(TIED),
        released=st.sampled_from([(), ("w-a", "m-box"), ("d",)]),
        revoked=st.sampled_from(["", "", "ann", "bob", "w-a", "m-box", "d"]),
        ended=clients,
    )
    def the_book_changes(self, tied: Any, released: tuple[str, ...], revoked: str, ended: str) -> None:
        """A license is revoked, or the key of one is replaced: it is valid again when its program comes back."""
        if not self.honest:
            self.net.happen(f.BookSeen(tied, tuple((name, self.net.now) for name in released)))
        if revoked and not (self.honest and "-" in revoked):
            self.net.happen(f.Revoked(revoked))
        elif (fd := self.connected.get(ended)) is not None:
            self.net.happen(f.KeyEnded(fd))

    def rogue(self, role: str, **more: Any) -> int:
        if self.connected.get(role) not in self.net.state.connections:
            self.connected[role] = self.net.join(role, owner=ROGUE, **more)
        return self.connected[role]

    @rule(
        role=st.sampled_from(["worker", "monitor"]),
        name=st.sampled_from([*GPUS, None, "x", "A", "a "]),
        message=st.sampled_from([*POWER, *FROM_WORKERS, *FROM_MONITORS]),
    )
    def a_rogue_says(self, role: str, name: str | None, message: m.Message) -> None:
        more = {"gpu": name, "url": "http://rogue:3"} if role == "worker" else {"gpus": name and (name, "x")}
        fd = self.rogue(role, features=MONITOR if name in GPUS else None, **more)
        self.net.say(fd, message)

    @rule(fd=st.integers(1, 9), message=st.sampled_from(STRANGE), old=st.booleans())
    def anyone_says_anything(self, fd: int, message: m.Message, *, old: bool) -> None:
        peer = self.net.state.connections.get(fd)
        if peer is not None and not (self.honest and (message in POWER or isinstance(message, m.Online))):
            self.net.happen(f.Received(fd, message, old))
            self.net.happen(f.Unreadable(fd, "no"))

    # The end

    def teardown(self) -> None:
        """The ledger is right. Then all goes well, and each job ends."""
        if not hasattr(self, "net"):
            return
        self.net.check_money()
        self.net.writes_a_snapshot()
        if self.honest:
            for machine in self.machines.values():
                assert machine.account() == pytest.approx(machine.ran, abs=0.01), machine.name
        self.all_are_well()
        for turn in range(400):
            if not self.net.state.jobs:
                break
            if (
                turn == 100 and not self.faithful
            ):  # a GPU is known to do no such jobs, until a worker of another version comes
                for machine in self.machines.values():
                    if not machine.on:
                        machine.switches(told=True)
            self.goes_on(1.0 if turn < 300 else 1000.0)
        for job in [*self.net.state.jobs.values()]:  # the owner of a job that no GPU can do gets this answer later
            if placement.refusal(self.net.state, job.need, self.net.now) is not None:
                self.comes_back(next(who for who in CLIENTS if CLIENTS[who][0] == job.owner))
        assert not self.net.state.jobs, self.net.state.jobs
        self.all_is_forgotten()

    def all_are_well(self) -> None:
        net = self.net
        for fd in [*net.state.connections]:
            net.leave(fd)
        net.fault, net.slow = "", False
        while net.asked:
            net.answer()
        names = (ROGUE, "m-box", "m-small", *(f"w-{gpu}" for gpu in GPUS))
        net.happen(f.BookSeen((), tuple((name, net.now) for name in names)))
        net.happen(f.DiskSeen(low=False))
        self.own_depot_comes()
        boss = self.client("admin")
        for gpu in GPUS:
            if gpu in net.state.gpus:
                net.say(boss, m.GpuAdmin(request_id="resume", gpu=gpu, action="resume"))
        for watch in self.watches.values():
            watch.comes(new=False)
            assert watch.here, net.sent[watch.fd]
        for who in CLIENTS if self.faithful else ():
            self.comes_back(who)

    def comes_back(self, who: str) -> None:
        """A client submits its jobs again, and asks for those that are delivered."""
        net, fd = self.net, self.client(who)
        owner, features = CLIENTS[who]
        for id_ in [job.id for job in net.state.jobs.values() if job.owner == owner and job.fd is None]:
            job = net.state.jobs[id_]
            net.say(fd, m.Submit(request_id=id_, payload=job.payload, task_type=job.task_type))
            if "depot" in features and job.depot is not None:
                net.say(fd, d.DepotOffer(request_id=id_, files=(FILE,)))
        for id_ in [id_ for id_ in net.state.delivered_of.get(owner, ()) if "depot" in features]:
            net.say(fd, d.DepotQuery(request_id=id_))
            assert id_ in {each.request_id for each in net.heard(fd, d.DepotDelivered)}, "results are not told"
            net.say(fd, m.JobDone(request_id=id_))

    def goes_on(self, seconds: float) -> None:
        """A second, or what a budget needs: monitors start what they are asked for, and jobs come to their ends."""
        net, state = self.net, self.net.state
        waits = (state.blocked or state.unpaid) and not any(gpu.leases for gpu in state.gpus.values())
        self.passes(3600.0 if waits else seconds)
        for gpu in state.gpus.keys() - HOSTS.keys():
            net.say(self.client("admin"), m.GpuAdmin(request_id="gone", gpu=gpu, action="remove", force=True))
        for gpu, watch in self.watches.items():
            watch.does_as_it_is_told()
            if watch.machine.on and self.worker(gpu) is None:
                self.a_healthy_worker_comes(gpu)
        for who in ("depot", "admin") if self.faithful else ():
            for places in net.heard(fd := self.client(who), d.DepotPlaces):
                if places.code is None:
                    net.put(CLIENTS[who][0], FILE)
                    net.say(fd, d.DepotStored(request_id=places.request_id))
            net.sent.pop(fd, None)
        for id_ in self.held:
            self.end(id_)

    def all_is_forgotten(self) -> None:
        """Nothing of a job stays in the hub's memory, when all have gone."""
        net, state = self.net, self.net.state
        for fd in [*state.connections]:
            net.leave(fd)
        for seconds in (4000.0, 4000.0, 4000.0, 1.0):  # a day may begin with each of the long ones
            self.passes(seconds)
        for name in OF_JOBS:
            assert not getattr(state, name), name
        assert not state.texts.open


TestAnyOrder = World.TestCase
TestAnyOrder.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)


class TwoClocks(World):
    """The same without budgets, which have days: a hub whose clock is set decides as one whose clock is right."""

    HUB = Shifted


TestTwoClocks = TwoClocks.TestCase
TestTwoClocks.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
