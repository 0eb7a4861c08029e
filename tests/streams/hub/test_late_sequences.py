"""Jobs that are placed late, in any order of events: what placing promises holds after each of them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams.hub.test_event_sequences import coherent, placed
from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub.power import STATES
from wakestream.streams.protocol import messages as m

GPUS = ("a", "b", "c")
OWNERS = ("ann", "ann", "bob")


class Crowd:
    """A hub with monitors of three machines that are off, and three clients of two licenses."""

    def __init__(self) -> None:
        self.net = Net(prices={"a": 1.0, "b": 2.0, "c": 3.0})
        self.monitors = {gpu: self.net.monitor(gpu, "release") for gpu in GPUS}
        for gpu, fd in self.monitors.items():
            self.net.phase(fd, "off", gpu)
        self.clients = [self.client(number) for number in range(3)]
        self.workers: dict[str, int] = {}
        self.jobs = 0

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
