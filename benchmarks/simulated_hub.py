"""The hub's real decider as a policy of the simulation: frames of client, monitors and workers go in and come out."""

from __future__ import annotations

from itertools import count

from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.state import Prices
from wakestream.streams.placement.simulate import Gpu, Moves, World
from wakestream.streams.protocol import messages as m

BEGIN = 1_000_000.0
"""The hub's time at the begin of the simulation."""


class RealHub:
    """One client, which announces `queue`, and a monitor for each machine, which stops it after its idle time."""

    def __init__(self, idle_stop: float) -> None:
        self.idle_stop, self.now, self._fd, self._ticked = idle_stop, BEGIN, count(1), 0.0
        self.state = hub.HubState(hub.Limits(jobs_per_key=10**6))
        self.phases: dict[str, str] = {}
        self.monitors: dict[int, str] = {}
        self.workers: dict[str, int] = {}
        self.known: dict[int, str | None] = {}
        self.sent: list[tuple[int, m.Message]] = []

    def step(self, world: World, now: float) -> tuple[Moves, float]:
        """See `Policy`."""
        if not self.phases:
            self._begin(world)
        self.now = BEGIN + now
        self._jobs_ended(world)
        for gpu in world.gpus.values():
            self._tell_phase(gpu)
        for number in world.waiting:
            if number not in self.known:
                self.known[number] = None
                self._say(self.client, m.Submit(request_id=f"j{number}"))
        if now - self._ticked >= 1:
            self._ticked = now
            self._happen(f.Tick())
        for gpu in world.gpus.values():
            if gpu.phase == "on" and not gpu.jobs and now - gpu.idle_since >= self.idle_stop:
                self._ask_to_stop(gpu.spec.name)
        moves = self._moves(world)
        busy = world.waiting or any(gpu.phase != "off" for gpu in world.gpus.values())
        return moves, 1.0 if busy or moves.wakes or moves.stops else 60.0

    def _begin(self, world: World) -> None:
        prices = {name: gpu.spec.price for name, gpu in world.gpus.items()}
        self.state.limits = hub.Limits(jobs_per_key=10**6, prices=Prices(prices))
        self._happen(f.ProcessStarted())
        self.client = self._join("client", m.Register(key="key", features=("queue", "done", "power_state")))
        for name in world.gpus:
            features = ("power_state", "release", "power_age")
            fd = self._join("monitor", m.Register(role="gpu_monitor", gpus=(name,), features=features))
            self.monitors[fd], self.phases[name] = name, "off"
            self._say(fd, m.PowerState(gpu=name, state="off"))

    def _join(self, role: str, message: m.Register) -> int:
        fd = next(self._fd)
        self._happen(f.Opened(fd))
        self._happen(f.Registering(fd, message, "key", f.License(role, role)))
        return fd

    def _happen(self, event: f.Event) -> None:
        _, commands = hub.DECIDER.step(self.state, event, self.now)
        for command in commands:
            if isinstance(command, f.Send | f.Broadcast):
                to = (command.fd,) if isinstance(command, f.Send) else command.to
                self.sent += [(fd, command.message) for fd in to]

    def _say(self, fd: int, message: m.Message) -> None:
        self._happen(f.Received(fd, message))

    def _jobs_ended(self, world: World) -> None:
        held = {number for gpu in world.gpus.values() for number in (*gpu.held, *gpu.running)} | {*world.waiting}
        for number in [number for number in self.known if number not in held]:
            del self.known[number]
            self._say(self.client, m.JobDone(request_id=f"j{number}"))

    def _tell_phase(self, gpu: Gpu) -> None:
        name = gpu.spec.name
        before, self.phases[name] = self.phases[name], gpu.phase
        monitor = next(fd for fd, of in self.monitors.items() if of == name)
        if before != gpu.phase == "coming":
            self._say(monitor, m.PowerState(gpu=name, state="starting"))
        elif before != gpu.phase == "on":
            worker = m.Register(role="worker", gpu=name, url="http://worker", features=("range",))
            self.workers[name] = self._join("worker", worker)
            self._say(self.workers[name], m.Online())
            self._say(monitor, m.PowerState(gpu=name, state="online"))
        elif before != gpu.phase:
            if gpu.failed == gpu.since:
                self._say(monitor, m.BootResult(gpu=name, success=False, msg="no boot"))
            if name in self.workers:
                self._happen(f.Closed(self.workers.pop(name)))
            self._say(monitor, m.PowerState(gpu=name, state="failed" if gpu.failed == gpu.since else "off"))
            for number in [number for number, of in self.known.items() if of == name]:
                self.known[number] = None

    def _ask_to_stop(self, name: str) -> None:
        monitor = next(fd for fd, of in self.monitors.items() if of == name)
        self._say(monitor, m.TaskQuery(request_id=name, gpu=name, drain=True))

    def _moves(self, world: World) -> Moves:
        grants: list[tuple[int, str]] = []
        wakes: list[str] = []
        stops: list[str] = []
        waiting = {*world.waiting}
        while self.sent:
            fd, message = self.sent.pop(0)
            gpu = world.gpus.get(self.monitors.get(fd, ""))
            if isinstance(message, m.Ack) and message.gpu and (number := int(message.request_id[1:])) in waiting:
                waiting.remove(number)
                self.known[number] = message.gpu
                grants.append((number, message.gpu))
            elif gpu is None:
                continue
            elif isinstance(message, m.Boot | m.Submit):
                wakes.append(gpu.spec.name)
            elif isinstance(message, m.Release):
                self._ask_to_stop(gpu.spec.name)
            elif isinstance(message, m.TaskQueryResponse) and not (message.active_count or message.has_recent_active):
                stops.append(gpu.spec.name)
        return Moves(grants, wakes, stops)
