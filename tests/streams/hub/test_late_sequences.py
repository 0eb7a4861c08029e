"""Jobs that are placed late, in any order of events: what placing and the depot promise holds after each of them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams.hub.test_event_sequences import coherent, placed
from tests.support.streams.hub_net import Net, Store
from wakestream.streams.hub import events as f
from wakestream.streams.hub.power import STATES
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

GPUS = ("a", "b", "c")
OWNERS = ("ann", "ann", "bob")


class Crowd:
    """A hub with monitors of three machines that are off, and three clients of two licenses."""

    def __init__(self) -> None:
        self.net = self.make_net()
        self.monitors = {gpu: self.net.monitor(gpu, "release") for gpu in GPUS}
        for gpu, fd in self.monitors.items():
            self.net.phase(fd, "off", gpu)
        self.clients = [self.client(number) for number in range(3)]
        self.workers: dict[str, int] = {}
        self.jobs = 0

    def make_net(self) -> Net:
        return Net(prices={"a": 1.0, "b": 2.0, "c": 3.0})

    def client(self, number: int) -> int:
        return self.net.join("client", owner=OWNERS[number], features=("queue", "done", "gpu_admin"))

    def submit(self, number: int, _: int) -> None:
        self.jobs += 1
        self.net.submit(self.clients[number], f"j{self.jobs}", {"gpus": ["a"]} if self.jobs % 5 == 0 else None)

    def again(self, number: int, pick: int) -> None:
        mine = [job.id for job in self.net.state.jobs.values() if job.owner == OWNERS[number]]
        if mine:
            self.net.submit(self.clients[number], mine[pick % len(mine)])

    def ends(self, number: int, pick: int) -> None:
        held = [id_ for gpu in self.net.state.gpus.values() for id_ in gpu.leases]
        mine = [id_ for id_ in held if self.net.state.jobs[id_].owner == OWNERS[number]]
        if mine:
            self.net.say(self.clients[number], m.JobDone(request_id=mine[pick % len(mine)]))

    def cancels(self, number: int, pick: int) -> None:
        mine = [job.id for job in self.net.state.jobs.values() if job.owner == OWNERS[number]]
        if mine:
            self.net.say(self.clients[number], m.Cancel(request_id=mine[pick % len(mine)]))

    def comes(self, number: int, _: int) -> None:
        self.workers[GPUS[number]] = self.net.worker(GPUS[number])

    def goes(self, number: int, _: int) -> None:
        if (fd := self.workers.pop(GPUS[number], None)) is not None and fd not in self.net.closed:
            self.net.leave(fd)

    def power(self, number: int, pick: int) -> None:
        state = STATES[pick % len(STATES)]
        retry = 30 if state == "no_capacity" else None
        self.net.phase(self.monitors[GPUS[number]], state, GPUS[number], retry_in=retry)

    def leaves(self, number: int, _: int) -> None:
        self.net.leave(self.clients[number])
        self.clients[number] = self.client(number)

    def holds(self, number: int, pick: int) -> None:
        action = ("hold", "resume")[pick % 2]
        self.net.say(self.clients[number], m.GpuAdmin(request_id="h", gpu=GPUS[pick % 3], action=action))

    def orders(self, number: int, pick: int) -> None:
        mine = [job.id for job in self.net.state.jobs.values() if job.owner == OWNERS[number]]
        self.net.say(self.clients[number], m.JobOrder(jobs=tuple(mine[pick % 3 :] + mine[: pick % 3])))

    def waits(self, _: int, pick: int) -> None:
        self.net.pass_time((1.0, 31.0, 100.0, 700.0)[pick % 4])


USUAL = ("submit", "submit", "submit", "ends", "ends", "comes", "waits")
steps = st.lists(
    st.tuples(
        st.sampled_from((*USUAL, "again", "cancels", "goes", "power", "leaves", "holds", "orders")),
        st.integers(0, 2),
        st.integers(0, 11),
    ),
    min_size=15,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_what_placing_promises_holds_after_each_event(sequence: list[tuple[str, int, int]]) -> None:
    crowd = Crowd()
    net = crowd.net
    for name, number, pick in sequence:
        before, lines = len(net.facts), {*net.state.lines}
        off = {gpu.name for gpu in net.state.gpus.values() if net.now - gpu.woken < 30.0 and gpu.phase == "off"}
        getattr(crowd, name)(number, pick)
        assert coherent(net.state)
        assert placed(net.state)
        woken = [fact.gpu for fact in net.facts[before:] if isinstance(fact, f.GpuWoken)]
        passed = 0.0 if name != "waits" else net.now
        assert passed or not off.intersection(woken), "a machine is woken twice"
        for gpu in woken:
            fits = [need for need, *_ in lines | {*net.state.lines} if not need.gpus or gpu in need.gpus]
            assert fits, "a machine is woken for nobody"
            assert not net.state.gpus[gpu].suspended


FILE, RESULT = (d.DepotFile(name=name, blake3=name[0] * 64, size=9) for name in ("audio", "frame"))


class DepotCrowd(Crowd):
    """The same, with a bucket: the first client and some workers are of an earlier version and do not know it."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, dict[str, None]] = {gpu: {} for gpu in GPUS}
        self.promised: set[str] = set()

    def make_net(self) -> Net:
        return Store(prices={"a": 1.0, "b": 2.0, "c": 3.0}, depot_keep=1e9)

    def client(self, number: int) -> int:
        features = ("queue", "done", "depot") if number else ("queue", "done")
        return self.net.join("client", owner=OWNERS[number], features=features)

    def comes(self, number: int, pick: int) -> None:
        features = ("inputs", "depot") if pick % 4 else ("inputs",)
        self.workers[GPUS[number]] = self.net.worker(GPUS[number], features=features)

    def mine(self, number: int, pick: int, *, stored: bool | None = None) -> str:
        jobs = [job for job in self.net.state.jobs.values() if job.owner == OWNERS[number]]
        fit = [job.id for job in jobs if stored is None or (job.depot is not None and job.stored is stored)]
        return fit[pick % len(fit)] if fit else ""

    def offers(self, number: int, pick: int) -> None:
        if number and (id_ := self.mine(number, pick)):
            self.net.say(self.clients[number], d.DepotOffer(request_id=id_, files=(FILE,)))

    def stores(self, number: int, pick: int) -> None:
        """A client stores the files of a job: all of it, or it goes on with one that it has offered."""
        if pick % 2:
            self.submit(number, pick)
            self.offers(number, -1)
        if number and (id_ := self.mine(number, pick, stored=False)):
            self.store.put(OWNERS[number], FILE)
            self.net.say(self.clients[number], d.DepotStored(request_id=id_))

    def says(self, number: int, pick: int) -> None:
        """A client says how far it is, that it withdraws, or asks."""
        id_ = self.mine(number, pick) if number else ""
        if id_:
            progress = d.DepotProgress(request_id=id_, left=10 ** (pick % 10), rate=1e6)
            kinds = (progress, progress, d.DepotWithdraw(request_id=id_), d.DepotQuery(request_id=id_))
            self.net.say(self.clients[number], kinds[pick % 4])

    def delivers(self, number: int, pick: int, code: str | None = None) -> None:
        """A worker delivers one of the jobs that it was ever given, perhaps one that another has by now."""
        gpu = GPUS[number]
        had = [*self.given[gpu]]
        if had and gpu in self.workers:
            id_ = had[pick % len(had)]
            for owner in {*OWNERS}:
                self.store.put(owner, RESULT)
            files = () if code else (d.DepotPlace(name="x", blake3=RESULT.blake3, size=RESULT.size),)
            self.net.say(self.workers[gpu], d.DepotDelivered(request_id=id_, files=files, code=code))

    def fails(self, number: int, pick: int) -> None:
        self.delivers(number, pick // 2, ("gone", "engine_error")[pick % 2])

    def falters(self, _: int, pick: int) -> None:
        """The bucket refuses, answers late, or has lost a file; or it is well again."""
        self.store.fault, self.store.slow = ("", "", "down", "")[pick % 4], pick % 4 == 3
        if pick % 5 == 0:
            self.store.files.clear()

    def dies(self, _: int, pick: int) -> None:
        """The hub is killed; all come back, but for workers."""
        self.net.restart()
        self.workers.clear()
        self.monitors = {gpu: self.net.monitor(gpu, "release") for gpu in GPUS}
        self.clients = [self.client(number) for number in range(3)]

    def note(self) -> None:
        """Note what workers were given, and of which jobs clients heard that the hub does them."""
        for gpu, fd in self.workers.items():
            self.given[gpu] |= dict.fromkeys(each.request_id for each in self.net.heard(fd, d.DepotFetch))
        for fd in self.clients:
            self.promised |= {each.request_id for each in self.net.heard(fd, d.DepotStored)}

    def settle(self) -> None:
        """All goes well from now on."""
        self.store.fault, self.store.slow = "", False
        self.dies(0, 0)
        for number in range(3):
            for job in [*self.net.state.jobs.values()]:
                if job.owner == OWNERS[number] and number:
                    self.net.submit(self.clients[number], job.id)
                    if job.depot is not None and not job.stored:
                        self.net.say(self.clients[number], d.DepotOffer(request_id=job.id, files=(FILE,)))
                        self.store.put(OWNERS[number], FILE)
                        self.net.say(self.clients[number], d.DepotStored(request_id=job.id))
        for number in range(3):
            self.comes(number, 1)
        for _ in range(300):
            if not self.net.state.jobs:
                break
            self.note()
            self.net.pass_time(1.0)
            for number, gpu in enumerate(GPUS):
                for id_ in [*self.net.state.gpus[gpu].leases]:
                    job = self.net.state.jobs[id_]
                    if id_ in self.given[gpu] and job.depot is not None:
                        self.delivers(number, [*self.given[gpu]].index(id_))
                    else:  # its client does it
                        self.net.say(self.clients[OWNERS.index(job.owner)], m.JobDone(request_id=id_))

    @property
    def store(self) -> Store:
        assert isinstance(self.net, Store)
        return self.net


BY_DEPOT = ("offers", "stores", "says", "delivers", "fails", "falters", "dies")
LESS = ("again", "cancels", "power", "leaves")
depot_steps = st.lists(
    st.tuples(
        st.sampled_from((*("submit", "stores", "delivers", "comes", "goes") * 2, *BY_DEPOT, *USUAL[3:], *LESS)),
        st.integers(0, 2),
        st.integers(0, 11),
    ),
    min_size=15,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(depot_steps)
def test_no_job_that_the_hub_took_over_is_lost_or_done_twice(sequence: list[tuple[str, int, int]]) -> None:
    crowd = DepotCrowd()
    net = crowd.net
    for name, number, pick in sequence:
        before, waited = len(net.facts), {job.id for job in net.state.jobs.values() if job.depot and not job.stored}
        getattr(crowd, name)(number, pick)
        crowd.note()
        granted = {fact.id for fact in net.facts[before:] if isinstance(fact, f.JobGranted)}
        now_stored = {fact.id for fact in net.facts[before:] if isinstance(fact, f.JobStored | f.JobDirect)}
        assert not granted & waited - now_stored, "a job was granted while its files were stored"
        assert coherent(net.state)
        assert placed(net.state)
    crowd.settle()
    ends = {fact.id: fact.why for fact in net.facts if isinstance(fact, f.JobRemoved)}
    delivered = [fact.id for fact in net.facts if isinstance(fact, f.JobDelivered)]
    assert len({*delivered}) == len(delivered), "a job was done twice"
    for id_ in crowd.promised - {*delivered}:
        # "done" are those whose files the depot lost, so that the client sent them to a worker itself.
        assert ends.get(id_) in ("cancelled", "done", "boot_failed"), f"{id_} is lost"
