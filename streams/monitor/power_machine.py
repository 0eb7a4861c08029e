"""What the monitor knows of its machine, what can happen to it, what it asks for: the nouns of `monitor.py`.

Times are seconds on whatever clock `now` is read from; it only has to go forward.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.ports import LinkDown, LinkUp, PowerState, PowerWord
from wakestream.streams.decider import Decision
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.structs import Frozen

Orphans = Literal["adopt", "stop", "report"]


@dataclass(frozen=True, slots=True)
class PowerPolicy:
    """The monitor's settings. Times are seconds.

    Attributes:
        gpu: The name of the GPU.
        idle_after: The time without work after which the machine is stopped.
        boot_timeout: The longest time from the wake until the GPU is online.
        max_uptime: The longest time for which the machine may run, from when it was first seen running; None: no limit.
        call_timeout: The longest time that a call to the provider may take.
        checks_health: Whether the monitor knows the worker's address and asks for its health.
        query_timeout: How long the monitor waits for the hub's answer before a stop.
        answer_every: The least time between two answers to boot requests for a machine that is on.
        look_soon: The pause between two inspects while the state is expected to change.
        look_online: The same, and between health checks, while the GPU is online.
        look_rarely: The same while the machine is off.
        stop_again: The time after which a stop without effect is repeated.
        fresh_for: The age up to which a reading answers a status query.
        misses: Failed checks in a row after which a worker, or the state of the machine, counts as lost.
        orphans: What happens to a machine that runs without a request. `adopt`: its idle time decides. `stop`: it is
            stopped unless a job holds it. `report`: it is left alone until it is used.
        first_alarm: The time between the first and the second alarm about one problem; each later one is twice as long.
        capacity: The pauses between starts while the provider has no machine.
        asks_first: Whether worker and hub are asked if an idle machine is in use before it drains; otherwise after.
        trouble: The pauses after failed calls to the provider.
        gone_after: How long the provider must answer that the machine does not exist until that is believed.
        shows_within: How long a start whose answer was lost may take to show at the provider.
        start_within: The time after which a start that has not led to a running machine counts as no capacity; None for
            no limit.
        follows_address: Whether the worker is at the address that the provider reports.
        expects_address: Whether the provider reports one for each machine that runs.
        more: The names of other GPUs in the same machine.
    """

    gpu: str
    idle_after: float = 1800.0
    boot_timeout: float = 600.0
    max_uptime: float | None = None
    call_timeout: float = 60.0
    checks_health: bool = True
    query_timeout: float = 30.0
    answer_every: float = 1.0
    look_soon: float = 2.0
    look_online: float = 10.0
    look_rarely: float = 30.0
    stop_again: float = 60.0
    fresh_for: float = 5.0
    misses: int = 3
    orphans: Orphans = "adopt"
    first_alarm: float = 60.0
    capacity: Backoff = field(default_factory=lambda: Backoff(initial=5.0, max_delay=60.0))
    asks_first: bool = True
    trouble: Backoff = field(default_factory=lambda: Backoff(initial=2.0, max_delay=60.0))
    gone_after: float = 20.0
    shows_within: float = 60.0
    start_within: float | None = None
    follows_address: bool = False
    expects_address: bool = False
    more: tuple[str, ...] = ()

    @property
    def gpus(self) -> tuple[str, ...]:
        """All GPUs in the machine."""
        return (self.gpu, *self.more)

    @property
    def only(self) -> str | None:
        """The GPU that a message names which is about all of them: None if there are several."""
        return None if self.more else self.gpu

    @property
    def warning(self) -> float:
        """How long before `max_uptime` a warning is given, and how long after it work may still end."""
        return min(600.0, 0.1 * (self.max_uptime or 0.0))

    def look_every(self, state: PowerWord) -> float:
        """How often the provider is asked in `state`."""
        if state in ("off", "failed", "no_capacity"):
            return self.look_rarely
        return self.look_online if state in ("online", "draining") else self.look_soon


class _OfCall(Frozen, frozen=True):
    """A call to the provider, or what comes of it: `number` distinguishes a late answer from the expected one."""

    number: int


class Start(_OfCall, frozen=True):
    """Ask the provider to power on."""


class Stop(_OfCall, frozen=True):
    """Ask the provider to power off."""


class Inspect(_OfCall, frozen=True):
    """Ask the provider what it sees."""


class Looks(msgspec.Struct):
    """What the provider says of the machine."""

    reading: PowerState | None = None
    shown: bool = False  # whether the last start, ours or not, was seen to begin
    read_at: float | None = None
    began_at: float = -math.inf  # when the last look began
    read_from: float = -math.inf  # when the look began that brought `reading`
    since: float = 0.0  # when `reading` began, if it is a new one
    failed: int = 0  # looks in a row without a reading
    missed: int = 0  # calls among them which were answered that the machine does not exist
    failed_since: float = 0.0
    next_at: float = 0.0
    address: str | None = None  # the worker's URL


class Boot(msgspec.Struct):
    """The wake that is carried out or still to be carried out, and the answers to those who asked."""

    wanted: bool = False  # the wake is still to be carried out
    wanted_at: float = 0.0
    request_id: str | None = None  # of the last wake
    seen_from: int = 0  # looks after this call show how the machine was at the last wake
    since: float = 0.0
    retries: int = 0  # starts for which the provider had no capacity
    retry_at: float = 0.0
    start_at: float | None = None  # when a start was asked for that does not show yet
    start_taken: bool = False  # whether the provider took that start
    tried_at: float = 0.0  # when the present start began
    again_at: float | None = None  # when a start that may not have reached the provider is repeated
    late: bool = False  # the start counts as no capacity, and the provider may still carry it out
    requests: tuple[str, ...] = ()  # ids of boot requests that are still to be answered
    owes_answer: bool = False  # a boot request without an id is
    answered_at: float = -math.inf
    unsaid: m.BootResult | None = None  # the failure that the hub does not know yet
    elsewhere_at: float | None = None  # when another monitor started the machine last, for another GPU in it
    unwanted: str | None = None  # why no job needs the machine that is coming, as the hub said


class Worker(msgspec.Struct):
    """The worker on the machine."""

    ready: bool = False
    served: bool = False  # since the machine is on
    answered: bool = False  # at the address that the provider reports
    gone: bool = False  # the hub lost it
    gone_at: float = 0.0
    misses: int = 0  # failed health checks in a row
    checking: bool = False
    next_health: float = 0.0
    health_at: float = -math.inf  # when it last answered for its health, or failed to


class Use(msgspec.Struct):
    """The use of the machine, and its stop when it has none."""

    up_since: float | None = None
    last_at: float = 0.0
    remembered: bool = False  # `last_at` is from before the monitor was last started
    released: tuple[float, str] | None = None  # the hub ended the idle time: `last_at` since then, and its reason
    asked_at: float | None = None  # when the hub was asked whether jobs hold it, and that still counts
    queries: int = 0
    active: int | None = None  # jobs that hold the GPU, as the hub said
    stop_ours: bool = False  # the monitor asked for the stop
    stop_tries: int = 0
    stop_again_at: float = 0.0
    warned: bool = False


class Link(msgspec.Struct):
    """The hub, and what it does not know yet."""

    features: frozenset[str] | None = None
    asked: tuple[str, ...] = ()  # ids of status queries that wait for the next look
    address: str | None = None  # the worker's URL that the hub knows
    orphan_unsaid: bool = False
    off_at: float | None = None  # when the machine went off while there was no hub to say it to


class Machine(msgspec.Struct):
    """All that is known. It is also the fact of a decision: the machine as it is from now on.

    The journal has only the part that must outlast a restart: see `persistence`.
    """

    state: PowerWord = "unknown"
    reason: str = "not looked at yet"
    on: bool | None = None  # whether it is paid for; None before the first look
    on_or_off_since: float | None = None
    ours: bool = False  # this monitor started it
    orphan: bool = False  # it runs without a request
    call: Start | Stop | Inspect | None = None  # the call to the provider that has not ended
    calls: int = 0
    due: Literal["start", "stop"] | None = None
    alarms: int = 0
    alarm_at: float = -math.inf
    looks: Looks = msgspec.field(default_factory=Looks)
    boot: Boot = msgspec.field(default_factory=Boot)
    worker: Worker = msgspec.field(default_factory=Worker)
    use: Use = msgspec.field(default_factory=Use)
    link: Link = msgspec.field(default_factory=Link)

    def copy(self) -> Machine:
        """An independent copy."""
        return Machine(*(copy(getattr(self, name)) for name in self.__struct_fields__))

    def become(self, other: Machine) -> None:
        """Take over all values of `other`."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))


class Tick(Frozen, frozen=True):
    """Time has passed."""


class Wake(Frozen, frozen=True):
    """The GPU is needed. `boot` marks a request, not the copy of a submit; `answer`: its id needs an answer."""

    request_id: str | None = None
    boot: bool = False
    answer: bool = False


class Ended(Frozen, frozen=True):
    """The monitor ends, and its machine has ended with it."""


class Taken(_OfCall, frozen=True):
    """The provider accepted a start or stop; its effect is not known yet."""


class Reading(_OfCall, frozen=True):
    """The result of an inspect.

    `detail` is the provider's own word, `address` where the worker can be reached, `age` for how many seconds the
    machine has been in this state, `gpus` how many GPUs it has; each is None if the provider does not say.
    """

    reading: PowerState
    detail: str = ""
    address: str | None = None
    age: float | None = None
    gpus: int | None = None


# Why a provider call failed, where the provider says so: see `QuotaExceeded`, `Denied`, `Gone`, `Transient`.
Fault = Literal["quota", "denied", "gone", "transient", ""]


class CallFailed(_OfCall, frozen=True):
    """A provider call failed or took too long; `no_capacity` is the provider's word for having no machine to give.

    `retry_after` is how many seconds the provider asks to wait; the call had no effect then.
    """

    why: str
    no_capacity: bool = False
    fault: Fault = ""
    retry_after: float | None = None


class HealthAnswer(Frozen, frozen=True):
    """The worker was asked for its health; `why` says what was wrong, `busy` how many tasks run or wait there.

    `url` is where it was asked, None for the address of the settings.
    """

    initialized: bool
    why: str = ""
    busy: int = 0
    url: str | None = None


# What comes of a call to the provider, or to the worker.
CallAnswer = Taken | Reading | CallFailed | HealthAnswer

# What the hub says, beside a wake. Its `gpu.power.state` is `lost` or `starting`.
HubMessage = m.Online | m.PowerState | m.TaskActive | m.TaskQueryResponse | m.Release | m.StatusQuery

PowerEvent = Tick | Wake | Ended | CallAnswer | HubMessage | LinkUp | LinkDown


class CheckHealth(Frozen, frozen=True):
    """Ask the worker at `url`, or at the address of the settings, whether it is initialized."""

    url: str | None = None


class Say(Frozen, frozen=True):
    """Send a message to the hub."""

    message: m.Message


class LogNote(Frozen, frozen=True):
    """Write a line to the log."""

    text: str
    warning: bool = False


PowerCommand = Start | Stop | Inspect | CheckHealth | Say | LogNote
PowerDecision = Decision[Machine, PowerCommand]
