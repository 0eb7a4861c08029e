"""A hub in memory for tests: what was sent to each connection, and a clock to move."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

ROLES = {"client": None, "admin": None, "worker": "worker", "monitor": "gpu_monitor", "depot": "depot"}
M = TypeVar("M", bound=m.Message)


def restarted(
    state: hub.HubState, rows: list[bytes], journal: list[f.Fact], now: float
) -> tuple[hub.HubState, list[bytes]]:
    """What a new process makes of a snapshot, and its rows; it makes the same of older rows and what was journaled."""
    kept = list(hub.DECIDER.snapshot(state))
    of_rows, of_facts = (
        hub.DECIDER.recover(facts, hub.HubState(state.limits), known) for known, facts in ((kept, ()), (rows, journal))
    )
    for each in (of_rows, of_facts):
        hub.DECIDER.evolve(each, f.HubStarted(now))
    assert comparable(of_rows) == comparable(of_facts)
    return of_rows, kept


def comparable(state: hub.HubState) -> dict[str, Any]:
    """Its fields; lines of waiting jobs are equal if they have the same jobs in the same order."""
    lines = {shape: list(line) for shape, line in state.lines.items()}
    return {field.name: getattr(state, field.name) for field in fields(state)} | {"lines": lines}


class Net:
    """`restart` is a new life of the hub on a snapshot of the one before, which must say what its journal says.

    While it is `silent`, it does no commands, as if it was killed when it had written the facts.
    """

    def __init__(self, now: float = 1_000_000.0, **limits: Any) -> None:
        self.limits = hub.Limits(**limits)
        self.state = hub.HubState(limits=self.limits)
        self.now = now
        self.sent: dict[int, list[m.Message]] = {}
        self.closed: dict[int, int] = {}
        self.facts: list[f.Fact] = []
        self.commands: list[f.Command] = []
        self.rows: list[bytes] = []
        self.journal: list[f.Fact] = []
        self.fd = 0
        self.asked: list[f.AskDepot] = []
        self.silent = False
        self.happen(f.ProcessStarted())

    def restart(self) -> None:
        self.state.limits = self.limits
        self.state, self.rows = restarted(self.state, self.rows, self.journal, self.now)
        self.sent, self.fd, self.asked, self.journal = {}, 0, [], []
        self.happen(f.ProcessStarted())

    def decide(self, event: f.Event) -> tuple[list[f.Fact], list[f.Command]]:
        return hub.DECIDER.step(self.state, event, self.now)

    def happen(self, event: f.Event) -> None:
        facts, commands = self.decide(event)
        commands = [] if self.silent else commands
        self.facts += facts
        self.commands += commands
        self.journal += [fact for fact in facts if fact.DURABLE]
        for command in commands:
            if isinstance(command, f.Close):
                self.closed[command.fd] = command.code
                continue
            if isinstance(command, f.AskDepot):
                self.asked.append(command)
                continue
            if isinstance(command, f.Notify):
                continue
            for fd in (command.fd,) if isinstance(command, f.Send) else command.to:
                self.sent.setdefault(fd, []).append(command.message)

    def join(self, role: str, *, owner: str | None = None, **more: Any) -> int:
        self.fd += 1
        self.happen(f.Opened(self.fd))
        known = f.License(owner or f"id-{role}", role)
        key = f"key-{known.id}"
        message = m.Register(key=key if role in ("client", "admin") else None, role=ROLES[role], **more)
        self.happen(f.Registering(self.fd, message, key, known))
        return self.fd

    def worker(self, gpu: str = "studio", *, features: tuple[str, ...] = ("range",)) -> int:
        fd = self.join("worker", gpu=gpu, url="http://w:1", features=features)
        self.say(fd, m.Online())
        return fd

    def monitor(self, gpu: str = "studio", *more: str) -> int:
        return self.join("monitor", gpus=(gpu,), features=("power_state", *more))

    def leave(self, fd: int) -> None:
        self.happen(f.Closed(fd))

    def say(self, fd: int, message: m.Message) -> None:
        self.happen(f.Received(fd, message))

    def submit(self, fd: int, id_: str = "j1", payload: Mapping[str, Any] | None = None) -> m.Message:
        self.sent.pop(fd, None)
        self.say(fd, m.Submit(request_id=id_, payload=payload or {}))
        return self.sent[fd][0]

    def reply(self, kind: type[M], fd: int, id_: str = "j1", payload: Mapping[str, Any] | None = None) -> M:
        """Submit a job; the answer is of this kind."""
        answer = self.submit(fd, id_, payload)
        assert isinstance(answer, kind), answer
        return answer

    def heard(self, fd: int, kind: type[M]) -> list[M]:
        return [message for message in self.sent.get(fd, []) if isinstance(message, kind)]

    def use(self, monitor: int, **asked: Any) -> m.TaskQueryResponse:
        """What a monitor hears when it asks who needs its GPU."""
        self.say(monitor, m.TaskQuery(request_id="q", **asked))
        return self.heard(monitor, m.TaskQueryResponse)[-1]

    def in_use(self, monitor: int) -> bool:
        """Whether a monitor that would stop the studio's machine hears that it is in use."""
        answer = self.use(monitor, gpu="studio", drain=True)
        return answer.active_count != 0 or answer.has_recent_active

    def status(self, fd: int, **asked: Any) -> m.HubStatus:
        """What the hub tells of its GPUs."""
        self.say(fd, m.HubStatusQuery(request_id="q", **asked))
        return self.heard(fd, m.HubStatus)[-1]

    def phase(self, monitor: int, state: str, gpu: str = "studio", msg: str | None = None, **more: Any) -> None:
        self.say(monitor, m.PowerState(gpu=gpu, state=state, msg=msg, **more))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.happen(f.Tick())


class Store(Net):
    """A hub with a bucket that has `files`: their sizes by license and BLAKE3.

    It answers at once unless `slow`; `fault` is the code with which it refuses.
    """

    def __init__(self, **limits: Any) -> None:
        self.files: dict[tuple[str, str], int] = {}
        self.slow, self.fault = False, ""
        super().__init__(**{"depot": True, **limits})

    def happen(self, event: f.Event) -> None:
        super().happen(event)
        while self.asked and not self.slow:
            self.answer()

    def answer(self) -> None:
        """Answer the first question."""
        asked = self.asked.pop(0)
        if self.fault:
            super().happen(f.DepotAnswered(asked, code=self.fault, reason="it said so"))
            return
        names = [file.blake3 for file in asked.files]
        if asked.ask == "remove":
            self.files = {key: size for key, size in self.files.items() if key[0] != asked.owner or key[1] not in names}
        have = {name: size for name in names if (size := self.files.get((asked.owner, name))) is not None}
        super().happen(f.DepotAnswered(asked, have))

    def put(self, owner: str, *files: d.DepotFile) -> None:
        """Files of a license are there now."""
        self.files |= {(owner, file.blake3): file.size for file in files}
