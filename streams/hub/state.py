"""The hub's state: limits, connections, GPUs, jobs and questions. Only the functions of `evolve.py` write here."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import Any, NewType

from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.hub.events import BudgetReached, JobDelivered, Planned, PowerNews
from wakestream.streams.hub.ledger import Account, Meter, Usage, money
from wakestream.streams.hub.local_time import UTC
from wakestream.streams.hub.needs import STORED, STORING, Need, need_of
from wakestream.streams.hub.texts import Texts
from wakestream.streams.moments import Moment
from wakestream.streams.placement.place import PlacePolicy
from wakestream.streams.placement.requirements import KIND
from wakestream.streams.placement.waiting import Line
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.kinds import MAX_KINDS
from wakestream.streams.protocol.structs import Frozen
from wakestream.streams.recording.config_json import STORED_AS

Prices = NewType("Prices", Mapping[str, float])
"""What an hour of each GPU costs, by its name."""

UNWATCHED = "its monitor is not connected, so nothing switches it off; start `wakestream monitor` for it again"
"""Why a GPU stays on although no job needs it, if its monitor has gone."""

ALONE = "its monitor is not connected; in {left} s the hub counts it as gone. Then {then}"
"""The same before that is sure, with what happens next: one of `THEN`, if its worker can switch its machine off."""

THEN = {
    False: "nothing switches the machine off; start `wakestream monitor` for it again",
    True: "its worker switches the machine off by its --poweroff-after",
}

TWIN = (
    "the machine {machine} is also that of the GPU {gpu}, whose monitor has another license, so each starts and stops "
    "it. Give both monitors one key, or start one monitor with both names"
)
"""What is wrong with a machine whose GPUs have monitors of different licenses."""

ALL = ""
"""Stands for all GPUs where a setting is given by name."""

Budgets = NewType("Budgets", Mapping[str, tuple[float | None, float | None]])
"""What a day and a month may cost, by the GPU's name, or for `ALL` together. None: no limit."""


WarmHours = NewType("WarmHours", Mapping[str, tuple[str, ...]])
"""Hours as `schedule.parse` reads them, by the GPU's name, or for `ALL` of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the hub. Times are seconds.

    Any sign of work at its GPU renews a lease.
    """

    register: float = 10.0
    """The longest time from the handshake to the registration."""
    malformed: int = 100
    """Malformed frames after which a connection is closed."""
    per_license: int = 200
    """Open connections of one license."""
    per_address: int = 500
    """Open connections of one address; behind a proxy all clients have its address."""
    jobs_per_key: int = 1000
    """Open jobs of one license."""
    gpus: int = 1000
    """Names of GPUs."""
    gpus_per_license: int = 200
    """Names of GPUs that one license may hold in a role by using them."""
    queued_ttl: float = 35 * 60.0
    """How long a waiting job is kept after its owner disconnected."""
    granted_ttl: float = 3600.0
    """The same for a job that holds a lease. It also ends the lease of a connected old client, which never sends
    `done`."""
    over_ttl: float = 5.0
    """The same for a job of which its worker says that it is over."""
    unreached_ttl: float = 60.0
    """The same for a job whose client has not come to the worker, as that says."""
    silent_ttl: float = 6 * 3600.0
    """How long a lease of a connected client that could send `done` lasts without a sign of work."""
    recent: float = 60.0
    """How long a GPU counts as active after a sign of work."""
    status_reply: float = field(default=3.0, metadata={STORED_AS: "ask"})
    """How long a monitor may take to answer a status query."""
    inspect_reply: float = field(default=60.0, metadata={STORED_AS: "look"})
    """How long a monitor that answered from memory may take to answer again after an inspect."""
    open_queries: int = field(default=50, metadata={STORED_AS: "asks"})
    """Open queries of one connection."""
    passed_on: int = 200
    """Messages of one connection in a second that are sent on to others."""
    unaddressed: float = 30.0
    """How long an online worker may wait for the monitor to learn its machine's address."""
    draining: float = 60.0
    """How long an announced stop may take to begin."""
    unregistered: float = field(default=600.0, metadata={STORED_AS: "unmet"})
    """How long the worker of a GPU that is on may take to register while jobs wait for it."""
    unwatched: float = 60.0
    """How long the monitor of a GPU that is on may be away before people and its worker get a message."""
    abandoned: float = 3600.0
    """How long a GPU without worker and monitor counts as on; then it was off since the last sign of life."""
    accepted: float = 10.0
    """A deployed worker's result within this time after the job was sent says only that it took the job."""
    kept_results: int = 100
    """Undelivered results of one license."""
    batch: int = 56 * 1024
    """Bytes of a job, and of a frame with several."""
    capability_ttl: float = 15 * 60.0
    """How long a capability is valid; 0: none are given."""
    texts: int = 2000
    """Open text requests."""
    texts_per_license: int = 50
    """Open text requests of one license."""
    text_ttl: float = 600.0
    """How long a text request stays open."""
    kinds: int = MAX_KINDS
    """Kinds of one GPU."""
    kinds_bytes: int = 16 * 1024 * 1024
    """Bytes of all descriptions of kinds together."""
    halted: float = 3600.0
    """How long a GPU that was stopped while its worker began no tasks is not started again for jobs."""
    kinds_every: float = 10.0
    """The shortest time between two changes of a GPU's kinds; a faster one has to wait."""
    open_roles: frozenset[str] = frozenset()
    """The roles that need no license."""
    price: float | None = None
    """What an hour of a GPU costs."""
    prices: Prices = field(default_factory=lambda: Prices({}))
    """What an hour of single GPUs costs."""
    currency: str = ""
    """The money that prices and budgets are in, for people."""
    budgets: Budgets = field(default_factory=lambda: Budgets({}))
    """What a day and a month may cost."""
    license_budget: float | None = None
    """What a day may cost for each license."""
    zone: str = UTC
    """The time zone of days, months and clock times."""
    webhook: bool = False
    """Whether there is a webhook for power and money."""
    keep_warm: WarmHours = field(default_factory=lambda: WarmHours({}))
    """The hours in which GPUs are kept on without work."""
    place: PlacePolicy = field(default_factory=PlacePolicy)
    """The times of the rules by which jobs are placed."""
    depot: bool = False
    """Whether the depot is a bucket; else it is our own one, if one connects."""
    depot_link: int = 1000
    """The most bytes of a link to the bucket."""
    depot_keep: float = 7 * 86_400.0
    """How long files stay in the depot that no open job needs, and results that no client fetches."""
    depot_quota: int | None = None
    """The most bytes of one license in the depot; None: no limit."""
    depot_files: int = 10_000
    """The most files of one license in the depot."""

    def price_of(self, gpu: str) -> Decimal | None:
        """The price of an hour of this GPU, or None."""
        price = self.prices.get(gpu, self.price)
        return None if price is None else money(price)


@dataclass(frozen=True, slots=True)
class Tied:
    """The GPUs that licenses were issued for: the names of each such license, and the licenses of each name by role.

    `weights` are those that are not 1.
    """

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    owners: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, tied: Sequence[tuple[str, str, tuple[str, ...]]], weights: Sequence[tuple[str, int]] = ()) -> Tied:
        """From each license's id, role and names, and from their weights."""
        owners: dict[tuple[str, str], frozenset[str]] = {}
        for license_, role, names in tied:
            owners |= {(role, name): owners.get((role, name), frozenset()) | {license_} for name in names}
        return cls({license_: names for license_, _, names in tied}, owners, dict(weights))


@dataclass(slots=True)
class Connection:
    """One open connection. `role` is client, worker, monitor or depot, from its registration on.

    `told` is a second and how many messages of this connection went to monitors in it. `kinds` are those that a worker
    has described, and which are not yet its GPU's; `described`: these are all. `instance` is a monitor's process, and
    `stops_at` is when it learned that no job needs its machine.
    """

    fd: int
    opened: Moment
    role: str | None = None
    owner: str | None = None
    key: str | None = field(default=None, repr=False)
    device: str = "pc"
    gpu: str | None = None
    url: str | None = None
    gpus: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()
    refused: int = 0
    old: bool = False
    told: tuple[int, int] = (0, 0)
    admin: bool = False
    labels: Mapping[str, str | float] | None = None
    slots: int | None = None
    max_priority: int = 0
    instance: str = ""
    stops_at: Moment = float("-inf")
    kinds: tuple[Mapping[str, Any], ...] | None = None
    described: bool = False

    def told_in(self, now: float) -> int:
        """How many messages of this connection went to monitors in the second of `now`."""
        return self.told[1] if self.told[0] == int(now) else 0


NOT_COMING = ("off", "unknown", "failed", "draining", "stopping")
"""Phases of a machine that is not coming, unless it was woken a moment ago."""

UNANSWERED = 30.0
"""Seconds in which a monitor that was asked to start its machine says that it does."""

RESTARTED = "the hub was restarted"
"""Why a GPU counts as lost whose worker is not back yet after that."""

SUSPENDED = "it is held for maintenance (by {by}); `wakestream gpu resume` ends that"
"""Why a GPU is given no work that a person holds."""

NEVER = -1e15
"""A time before all others; JSON has no infinite numbers."""


@dataclass(slots=True)
class GpuRecord:
    """What a restarted hub knows of a GPU: its phase (a power state, or `lost`) since when, and its account.

    `url` is what its worker said when it came online, `machine_url` what its monitor says: "" while the machine's
    address is not known yet, None if the monitor does not tell it. `served` are the licenses whose jobs it was given,
    the last ones. `kinds` are the descriptions of what it can do by the kind's name, None if they are not known, since
    `described_at`; `pairs_only`: only a video and an audio file. `halted` is why its worker begins no tasks
    (`not_ready` or `paused`, else empty), since `halted_at`. `machine`, `price`, `currency` and `idle_after` are as its
    monitor says, `retry_at` is when that asks the provider for a machine again. `alone_since`: without worker and
    monitor. `kept_until` and `stopped_at` are what people ordered last: not to stop it before then, or to turn it off.
    `boots` are the seconds of its last boots, `failed_boots` is how many failed meanwhile. `tells_work`: its worker
    says how long it works for each job. `host` is the same for all GPUs in its machine, empty if that is not known.
    `slots` is how many tasks its worker does at one time, `told` the labels that its worker and its monitor said, by
    role. `woken` is when the hub had its machine started for a job, until it is off again. `suspended` is who held it
    for maintenance, or empty. `depot`: its worker fetches files from the depot; None: not known. `orphan` is why it is
    on without a job, if its monitor found it so or is gone. `worked_until` is when its worker vanished or its machine
    stopped: what runs after that is no work of its jobs.
    """

    name: str
    phase: str = "unknown"
    since: Moment = 0.0
    url: str | None = None
    machine_url: str | None = None
    served: dict[str, None] = field(default_factory=dict)
    cause: str = ""
    retry_at: float | None = None
    account: Account = field(default_factory=Account)
    kinds: Mapping[str, Mapping[str, Any]] | None = None
    pairs_only: bool = False
    described_at: Moment = NEVER
    halted: str = ""
    halt_cause: str = ""
    halted_at: Moment = NEVER
    meter: Meter = field(default_factory=Meter)
    machine: str = ""
    price: float | None = None
    currency: str = ""
    idle_after: float | None = None
    alone_since: Moment | None = None
    kept_until: Moment = NEVER
    stopped_at: Moment = NEVER
    boots: list[float] = field(default_factory=list)
    failed_boots: float = 0.0
    tells_work: bool = False
    host: str = ""
    slots: int = 1
    told: dict[str, Mapping[str, str | float]] = field(default_factory=dict)
    woken: Moment = NEVER
    orphan: str = ""
    suspended: str = ""
    depot: bool | None = None
    worked_until: Moment | None = None

    def label(self, name: str) -> str | float | None:
        """The value of a label; None without that label. The worker's word counts more than the monitor's."""
        if name == "gpu":
            return self.name
        if name == "machine":
            return self.machine or None
        if name.startswith(KIND):
            return "" if name.removeprefix(KIND) in self.known_kinds else None
        return self.told.get("worker", {}).get(name, self.told.get("monitor", {}).get(name))

    @property
    def known_kinds(self) -> Collection[str]:
        """The names of its kinds, as far as they are known."""
        return self.kinds if self.kinds is not None else (LIPSYNC,) if self.pairs_only else ()

    @property
    def labels(self) -> dict[str, str | float]:
        """All labels: those that its worker and its monitor said, and those that the hub gives."""
        named = sorted({"gpu", "machine", *chain(*self.told.values()), *(KIND + kind for kind in self.known_kinds)})
        return {name: value for name in named if (value := self.label(name)) is not None}


@dataclass(slots=True)
class Gpu(GpuRecord):
    """One GPU, with its worker's connection, and the jobs that hold it.

    `unaddressed` is since when a worker waits for the machine's address. `active` is the last sign of work, `let_go`
    when its monitors heard that it is not needed any more, `warmed` when they were asked for its keep-warm hours.
    `changed` is when it came online, or when the first of its jobs began, or another one ended, last. `seen` are the
    BLAKE3s of the files that it fetched from the depot, the last ones. `away` is when its worker's connection ended.
    """

    worker: int | None = None
    away: Moment = float("-inf")
    seen: dict[str, None] = field(default_factory=dict)
    unaddressed: Moment | None = None
    ready: bool = False
    active: Moment = float("-inf")
    leases: dict[str, None] = field(default_factory=dict)
    let_go: Moment = float("-inf")
    warmed: Moment = float("-inf")
    changed: Moment = float("-inf")
    failures: int = 0
    unwatched: Moment | None = None

    def metered(self, at: float) -> float:
        """Count until `at` what its holders use; returns the share of each since some begin."""
        return self.meter.advance(at, len(self.leases), running=self.works)

    @property
    def works(self) -> bool:
        """Whether its machine runs and its worker is there, as far as the hub knows."""
        return self.account.running_since is not None and self.worked_until is None

    @property
    def parts(self) -> int:
        """How many jobs its machine does at one time, so that each uses that part of it."""
        return self.slots * self.account.gpus

    def used_by(self, job: HubJob, at: float) -> float:
        """Seconds that one of its holders used of it until `at`: its work, or a share if the worker tells none."""
        if not self.tells_work:
            more = max(0.0, at - self.meter.at) / len(self.leases) if self.works else 0.0
            return max(0.0, self.meter.share + more - job.began) / self.account.gpus
        until = at if self.worked_until is None else min(at, self.worked_until)
        return 0.0 if job.works is None else max(0.0, until - job.works) / self.parts

    def started(self, now: float) -> float | None:
        """When the hub had its machine started; None if it did not, or if that machine has stopped since."""
        stops = self.phase in ("draining", "stopping") and self.woken <= self.since
        stopped = stops or (self.phase in NOT_COMING and now - self.woken >= UNANSWERED)
        return None if stopped or self.woken < 0 else self.woken

    @property
    def closed(self) -> str:
        """The word for why it is given no work: its worker begins none, or a person holds it; else empty."""
        return "paused" if self.suspended else self.halted

    @property
    def closed_cause(self) -> str:
        """The same as a sentence."""
        return SUSPENDED.format(by=self.suspended) if self.suspended else self.halt_cause

    def fetches(self, job: HubJob) -> bool:
        """Whether its worker fetches the files of this job, so that the hub does it and not the client."""
        return job.stored and bool(self.depot)

    @property
    def online(self) -> bool:
        """Whether it may be given work."""
        return self.phase == "online" and self.worker is not None


Shape = tuple[Need, str, int]
"""What jobs alike have in common: their need, license and priority."""

LONGEST_KIND = 40
"""Characters of a kind of work that are shown."""


class JobFiles(Frozen, frozen=True):
    """The files of a job that go through the depot, and since when all of them are there.

    `again`: the result must be made for this job.
    """

    files: tuple[d.DepotFile, ...]
    stored: Moment | None = None
    again: bool = False


class HubJob(Frozen, frozen=True):
    """One job: it holds a lease on `gpu`, or waits. `gone` is the time at which its owner's connection was closed.

    `seq` is its number in the order of arrival, or of the grants. `last` is the GPU that it held before and lost.
    `used` are the seconds that it used of GPUs and that are booked, `began` is what the meter of its GPU said when it
    got it. `works` is since when its task runs, as the worker says.
    `late`: it is given to a GPU only when its turn comes, and keeps its place: `arrived` is when it came first, `order`
    its place among those of its license. `depot` are its files in the depot; `direct`: its client does without that.
    """

    id: str
    owner: str
    fd: int | None
    task_type: str
    payload: Mapping[str, Any]
    seq: int
    since: Moment
    gpu: str | None = None
    gone: Moment | None = None
    last: str | None = None
    used: Mapping[str, float] = {}
    began: float = 0.0
    works: Moment | None = None
    late: bool = False
    arrived: Moment = 0.0
    order: int = 0
    depot: JobFiles | None = None
    direct: bool = False

    @property
    def stored(self) -> bool:
        """Whether all of its files are in the depot, so that the hub does it."""
        return self.depot is not None and self.depot.stored is not None

    @property
    def shape(self) -> Shape:
        """The jobs alike that it waits with."""
        return self.need, self.owner, self.priority

    @property
    def need(self) -> Need:
        """What it needs of a GPU. A worker that knows no depot needs the client, which has the files."""
        need = need_of(self.task_type, self.payload)
        if self.depot is None or (self.stored and self.gone is None):
            return need
        return need._replace(depot=STORED if self.stored else STORING)

    @property
    def priority(self) -> int:
        """Jobs of a higher one come first."""
        said = self.payload.get("priority")
        return said if isinstance(said, int) else 0

    @property
    def kind(self) -> str:
        """The kind of work, for people."""
        return (self.need.kind or self.task_type)[:LONGEST_KIND]

    @property
    def submit(self) -> m.Submit:
        """The frame that it came as, without its owner's key."""
        return m.Submit(request_id=self.id, task_type=self.task_type, payload=self.payload)


@dataclass(slots=True, kw_only=True)
class Durable:
    """What outlives the process: all that durable facts say, and nothing else.

    `kept` are the results that no connection of their owner has taken. `waking` is since when a job waits for a GPU to
    come online, `boots` are the last boots, each with its end and its seconds. `pending_cancels` are the cancelled jobs
    of each GPU that its worker may still have. `recently_released` has the owner and the GPU of the last jobs that
    their clients released: a client may have released the GPU for a pause only, and cancel the job later. `serial` is
    the last `seq` of a job. `holders` are the licenses that use each GPU's name, by role and name, each with the time
    of its last use. `reached` has the last report about each budget, by GPU and period. `news` are the webhooks that
    are pending. `usage` is what jobs and licenses used. `delivered` are the jobs whose results are in the depot, the
    oldest first, until their clients have them. `in_depot` has the files of each license by BLAKE3: bytes, last use and
    ending, the one that was not used for longest first. `removed` has those that left a bucket, and when: a link that
    was given before may put one there again. `depot_of` is the license of our own depot, and since when.
    `depot_saved` are the seconds of uploads to the depot while no GPU was on, by the first day of the month.
    `refusals` says why jobs stay out of the depot.
    """

    gpus: dict[str, GpuRecord] = field(default_factory=dict)
    jobs: dict[str, HubJob] = field(default_factory=dict)
    kept: dict[str, list[tuple[Moment, m.Result]]] = field(default_factory=dict)
    waking: Moment | None = None
    boots: list[tuple[Moment, float]] = field(default_factory=list)
    pending_cancels: dict[str, dict[str, Moment]] = field(default_factory=dict)
    recently_released: dict[str, tuple[str, str]] = field(default_factory=dict)
    serial: int = 0
    holders: dict[tuple[str, str], tuple[str, Moment]] = field(default_factory=dict)
    reached: dict[tuple[str, str], BudgetReached] = field(default_factory=dict)
    news: dict[str, PowerNews] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    delivered: dict[str, JobDelivered] = field(default_factory=dict)
    in_depot: dict[str, dict[str, tuple[int, Moment, str]]] = field(default_factory=dict)
    removed: dict[str, dict[str, Moment]] = field(default_factory=dict)
    depot_of: tuple[str, Moment] | None = None
    depot_saved: dict[int, float] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class HubState(Durable):
    """The whole state: what is durable, indexes of that, what is known of connections, and the settings.

    Indexes: `queue` has the waiting jobs in order of arrival, `arrivals` their numbers, `wanted` counts them by what
    they need. `lines` has those that are placed late and whose client is here, `early` those that are not placed late,
    `absent` those whose client is away, the one that is away for longest first. `jobs_of` has the jobs of each license,
    `kinds_bytes` is the size of all descriptions of kinds. `stored` are the jobs that the hub does, `delivered_of` the
    delivered ones of each license.

    Of this process: `capabilities` has the expiry of each job's capability, the earliest first; `revoked` when each
    license was revoked. `cancelled` has the owner and the connection of the last cancelled jobs. `blocked` are the
    GPUs, or `ALL`, whose budget is spent, each with the time at which it can go on. `unpaid` are the licenses that
    have spent their budget until `unpaid_until`. `depot` is the connection of our own depot. `uploads` has for each
    job whose client stores its files the bytes that are left, their rate, and since when; `saving` has its seconds
    while no GPU was on. `expiry_told` are delivered jobs whose results will go soon, `swept` is when the hub looked
    for those last. `leaving` has how often the depot is asked now to remove a file, by license and BLAKE3.
    `restarted` is when this process began, until our own depot is connected. `seen` is what workers said last of the
    jobs that they hold, and since when. `finished` has the owner and the GPU of the last jobs that their workers had
    finished when they were released, and when: the client of one that comes back fetches the result without a lease.
    """

    limits: Limits = field(default_factory=Limits)
    gpus: dict[str, Gpu] = field(default_factory=dict, kw_only=True)  # type: ignore[assignment] # a record and more
    queue: dict[str, None] = field(default_factory=dict)
    arrivals: list[int] = field(default_factory=list)
    wanted: dict[Need, int] = field(default_factory=dict)
    early: dict[str, None] = field(default_factory=dict)
    absent: dict[str, None] = field(default_factory=dict)
    lines: dict[Shape, Line] = field(default_factory=dict)
    planned: Planned | None = None
    jobs_of: dict[str, dict[str, None]] = field(default_factory=dict)
    kinds_bytes: int = 0
    connections: dict[int, Connection] = field(default_factory=dict)
    clients: dict[int, None] = field(default_factory=dict)
    monitors: dict[int, None] = field(default_factory=dict)
    by_owner: dict[str, dict[int, None]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    asked: dict[tuple[str, str], tuple[Moment, tuple[int, ...]]] = field(default_factory=dict)
    cancelled: dict[str, tuple[str, int]] = field(default_factory=dict)
    disk_low: bool = False
    capabilities: dict[str, float] = field(default_factory=dict)
    revoked: dict[str, Moment] = field(default_factory=dict)
    texts: Texts = field(default_factory=Texts)
    tied: Tied = field(default_factory=Tied)
    blocked: Mapping[str, float] = field(default_factory=dict)
    unpaid: frozenset[str] = frozenset()
    unpaid_until: float = 0.0
    stored: dict[str, None] = field(default_factory=dict)
    delivered_of: dict[str, dict[str, None]] = field(default_factory=dict)
    depot: int | None = None
    uploads: dict[str, tuple[int, float, Moment]] = field(default_factory=dict)
    saving: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    expiry_told: dict[str, None] = field(default_factory=dict)
    swept: Moment = float("-inf")
    leaving: dict[tuple[str, str], int] = field(default_factory=dict)
    restarted: Moment = float("-inf")
    seen: dict[str, tuple[str, Moment]] = field(default_factory=dict)
    finished: dict[str, tuple[str, str, Moment]] = field(default_factory=dict)

    @property
    def has_depot(self) -> bool:
        """Whether there is a depot, though our own one may be away."""
        return self.limits.depot or self.depot_of is not None or self.depot is not None

    @property
    def depot_up(self) -> bool:
        """Whether files can go to the depot, as far as the hub knows."""
        return self.limits.depot or self.depot is not None

    @property
    def depot_url(self) -> str | None:
        """The address of our own depot; None if it is not connected."""
        return self.connections[self.depot].url if self.depot is not None else None

    @property
    def depot_name(self) -> str:
        """The name of our own depot, which capabilities are for; empty if it is not connected."""
        return self.connections[self.depot].gpu or "" if self.depot is not None else ""

    def upload_saved(self, id_: str, left: int, rate: float, at: float) -> float:
        """Seconds of a job's upload while no GPU was on, when `left` bytes are left of it.

        These are the bytes that were sent divided by the rate; a pause saves nothing.
        """
        saved = self.saving.get(id_, 0.0)
        if id_ not in self.uploads or any(gpu.account.running_since is not None for gpu in self.gpus.values()):
            return saved
        before, last, since = self.uploads[id_]
        rate = rate or last
        return saved + (max(0, before - left) / rate if rate else max(0.0, at - since))

    def need(self, need: Need, owner: str) -> Need:
        """The need of a job of this license."""
        return need._replace(unpaid=True) if owner in self.unpaid else need

    def need_of(self, job: HubJob) -> Need:
        """What a job needs."""
        return self.need(job.need, job.owner)

    def machine_with(self, gpu: Gpu) -> list[Gpu]:
        """The GPUs in the machine of this one, which have one account."""
        return [other for other in self.gpus.values() if other.host == gpu.host] if gpu.host else [gpu]

    def used_by(self, job: HubJob, at: float) -> Mapping[str, float]:
        """Seconds that a job used of each GPU until `at`."""
        if job.gpu is None:
            return job.used
        return {**job.used, job.gpu: job.used.get(job.gpu, 0.0) + self.gpus[job.gpu].used_by(job, at)}

    def count_wanted(self) -> dict[Need, int]:
        """The waiting jobs by what they need."""
        return dict(Counter(self.need_of(self.jobs[id_]) for id_ in self.queue))

    def early_wanted(self) -> dict[Need, int]:
        """The waiting jobs by what they need, without those that are placed late."""
        return dict(Counter(self.need_of(self.jobs[id_]) for id_ in self.early)) if self.early else {}

    def blocks(self, *gpus: str) -> bool:
        """Whether no budget is left for any of these GPUs; without names, for those that have no name yet."""
        return bool(self.blocked) and (ALL in self.blocked or (bool(gpus) and all(gpu in self.blocked for gpu in gpus)))

    def blocked_until(self, gpu: str) -> float:
        """When this GPU has a budget again; 0 if it has one now."""
        return max(self.blocked.get(ALL, 0.0), self.blocked.get(gpu, 0.0))

    def may_wake(self) -> list[int]:
        """The monitors that may be asked for a GPU: those of which not every GPU is blocked."""
        return [fd for fd in self.monitors if not self.blocks(*self.connections[fd].gpus)]

    def position(self, job: HubJob) -> int:
        """The job's place in the queue, 1 for the next one."""
        return bisect_left(self.arrivals, job.seq) + 1

    def price_of(self, name: str) -> Decimal | None:
        """The price of an hour of this GPU: the one in the settings, or what the provider says in the same currency."""
        price, gpu = self.limits.price_of(name), self.gpus.get(name)
        if price is not None or gpu is None or gpu.price is None:
            return price
        return money(gpu.price) if self.limits.currency in ("", gpu.currency) else None

    def currency_of(self, name: str) -> str:
        """The money of this GPU's price: as in the settings, or else its provider's; "" if neither says it."""
        if self.limits.currency or self.limits.price_of(name) is not None or name not in self.gpus:
            return self.limits.currency
        return self.gpus[name].currency

    @property
    def currencies(self) -> tuple[str, ...]:
        """The different kinds of money of all prices that count. Amounts of different money are not added up."""
        priced = (gpu.name for gpu in self.gpus.values() if self.price_of(gpu.name) is not None)
        return tuple(sorted({self.currency_of(name) for name in priced} - {""}))

    @property
    def currency(self) -> str:
        """The money of all amounts: as in the settings, or else the providers' if they have the same."""
        currencies = self.currencies
        return self.limits.currency or (currencies[0] if len(currencies) == 1 else "")

    def url_of(self, gpu: Gpu) -> str | None:
        """Where clients reach the worker of `gpu`: the worker's own word counts most, then the monitor's."""
        return self._said_url(gpu) or (gpu.url if gpu.machine_url is None else gpu.machine_url) or None

    def _said_url(self, gpu: Gpu) -> str | None:
        peer = self.worker_of(gpu)
        return peer.url if peer is not None else None

    def worker_of(self, gpu: Gpu) -> Connection | None:
        """The connection of the worker of `gpu`."""
        return self.connections.get(gpu.worker) if gpu.worker is not None else None

    def watching(self, gpu: str) -> list[int]:
        """The monitors that name this GPU."""
        return [fd for fd in self.monitors if gpu in self.connections[fd].gpus]

    def with_feature(self, feature: str, fds: Iterable[int]) -> list[int]:
        """Those of these connections that announced a feature."""
        return [fd for fd in fds if feature in self.connections[fd].features]

    def job_of(self, peer: Connection, id_: str) -> HubJob | None:
        """The open job of this id, if it is one of the license of `peer`."""
        job = self.jobs.get(id_)
        return job if job is not None and job.owner == (peer.owner or "") else None

    def worker_url(self, gpu: Gpu) -> str | None:
        """What the worker of `gpu` says, or said when it came online last."""
        return self._said_url(gpu) or gpu.url

    def queued(self) -> list[HubJob]:
        """All waiting jobs, the oldest first."""
        return [self.jobs[id_] for id_ in self.queue]

    def listeners(self, job: HubJob) -> tuple[int, ...]:
        """The connection that submitted the job, or else every connection of its owner."""
        if job.fd is not None and job.fd in self.connections:
            return (job.fd,)
        return self.of_owner(job.owner)

    def of_owner(self, owner: str) -> tuple[int, ...]:
        """The open client connections of one license."""
        return tuple(fd for fd in self.by_owner.get(owner, ()) if fd in self.clients)

    def named(self) -> set[str]:
        """The GPUs that the connected monitors watch."""
        return {name for fd in self.monitors for name in self.connections[fd].gpus}
