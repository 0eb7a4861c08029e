"""The metrics of the hub: waiting jobs, connections, GPUs and their costs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from prometheus_client.metrics_core import Metric

from wakestream.adapters.disk.journal import StoredJournal
from wakestream.adapters.hub.config import Leadership
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.telemetry import metric_families as ff
from wakestream.operators.model.ports import PowerWord
from wakestream.streams.hub import budget, ledger, status
from wakestream.streams.hub import events as f
from wakestream.streams.hub.answers import phase
from wakestream.streams.hub.state import HubState

ROLES = ("client", "worker", "monitor", "depot", "unregistered")
PHASES = (*get_args(PowerWord), "lost")
WAITING = ("budget", "no_monitor", "booting", "booted", "stopping", "lost", "no_capacity", "online")
"""The phases that the hub sends to waiting clients."""

_MOVES = {f.JobQueued: "queued", f.JobGranted: "granted", f.JobRemoved: "released"}

_DEPOT_MOVES = {f.JobStored: "stored", f.JobDelivered: "delivered", f.JobDirect: "direct"}


class HubMetrics:
    """A callable that returns the families of a hub with this state folder; `clock` gives UNIX seconds.

    A hub that stands by has only those of its folder and of the cluster.
    """

    def __init__(self, folder: Path, leadership: Leadership, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._leadership, self._clock = folder, leadership, clock
        self._leading: tuple[HubServer, StoredJournal[Any]] | None = None
        self._registered: Counter[str] = Counter()
        self._moves: Counter[str] = Counter()
        self._depot_moves: Counter[str] = Counter()
        self._boots = ff.histogram("wakestream_hub_boot_seconds", "From the first job that waits to a GPU online.")

    def lead(self, hub: HubServer, journal: StoredJournal[Any]) -> None:
        """From now on this hub leads, with this journal."""
        self._leading = hub, journal
        hub.on_fact = self._hear

    def rest(self) -> None:
        """This hub leads no more: what it knew is removed from memory."""
        self._leading = None

    def _hear(self, fact: f.Fact) -> None:
        match fact:
            case f.ConnectionRegistered():
                self._registered[fact.role] += 1
            case f.BootTook():
                self._boots.observe(fact.seconds)
            case f.JobQueued() | f.JobGranted() | f.JobRemoved():
                self._moves[_MOVES[type(fact)]] += 1
            case f.JobStored() | f.JobDirect() | f.JobDelivered():
                move = "failed" if isinstance(fact, f.JobDelivered) and fact.code else _DEPOT_MOVES[type(fact)]
                self._depot_moves[move] += 1

    def __call__(self) -> Iterator[Metric]:
        """All families of the hub."""
        yield ff.build("hub")
        yield from self._cluster()
        if self._leading is not None:
            yield from self._of_leader(*self._leading)
        yield from ff.disk("hub", self._folder)

    def _cluster(self) -> Iterator[Metric]:
        role = self._leadership
        yield ff.gauge("wakestream_hub_leader", "1 while this hub leads, 0 while it stands by.", role.answers)
        text = "How often the leader has changed; absent for a hub without a database."
        yield ff.gauge("wakestream_hub_epoch", text, role.epoch)
        text = "From the last sign of the former leader until this hub served; absent if it has not taken over."
        yield ff.gauge("wakestream_hub_takeover_seconds", text, role.took if role.leads else None)
        lag = None if role.leads or role.read is None else time.monotonic() - role.read
        text = "Since a hub that stands by has read what the leader wrote; absent for the leader."
        yield ff.gauge("wakestream_hub_standby_lag_seconds", text, lag)

    def _of_leader(self, hub: HubServer, journal: StoredJournal[Any]) -> Iterator[Metric]:
        state = hub.state
        yield from self._jobs(state)
        yield from self._peers(state)
        yield from self._gpus(state)
        yield from self._depot(state)
        yield from ff.observed(self._boots)
        percentiles = {
            (gpu.name, name.removeprefix("p")): seconds
            for gpu in state.gpus.values()
            for name, seconds in (ledger.boot_times(gpu.boots) or {}).items()
        }
        text = "The median and the 90th percentile of the GPU's last 100 boots, as told to those who wait."
        yield ff.gauges("wakestream_hub_boot_eta_seconds", text, ("gpu", "percentile"), percentiles)
        yield ff.gauge("wakestream_hub_fronts", "Connected fronts.", len(hub.fronts.open))
        yield ff.refusals("hub", hub.refused)
        yield from ff.journal("hub", journal)

    def _jobs(self, state: HubState) -> Iterator[Metric]:
        words = ff.one_of(WAITING, phase(state))
        waiting = {word: is_it * len(state.queue) for word, is_it in words.items()}
        text = "Jobs that wait for a GPU, by what they wait for."
        yield ff.gauges("wakestream_hub_jobs_waiting", text, ("phase",), waiting)
        starts = [*(state.planned.starts if state.planned is not None else {}).values()]
        known = {
            "first": [first for first, _ in starts if first is not None],
            "last": [] if any(last is None for _, last in starts) else [last or 0.0 for _, last in starts],
        }
        seconds = {job: (min if job == "first" else max)(times) for job, times in known.items() if times}
        text = "In how many seconds the first and the last waiting job start, as planned; absent if it is not known."
        yield ff.gauges("wakestream_hub_queue_start_seconds", text, ("job",), seconds)
        moves = {move: self._moves[move] for move in _MOVES.values()}
        yield ff.counters("wakestream_hub_jobs_total", "Jobs that made this move.", ("move",), moves)

    def _peers(self, state: HubState) -> Iterator[Metric]:
        open_: Counter[str] = Counter(peer.role or "unregistered" for peer in state.connections.values())
        now = {role: open_[role] for role in ROLES}
        yield ff.gauges("wakestream_hub_connections", "Open connections.", ("role",), now)
        ever = {role: self._registered[role] for role in ROLES[:-1]}
        text = "Connections that registered: grows quickly when peers cannot stay."
        yield ff.counters("wakestream_hub_registrations_total", text, ("role",), ever)

    def _depot(self, state: HubState) -> Iterator[Metric]:
        up = float(state.depot_up) if state.has_depot else None
        yield ff.gauge("wakestream_hub_depot_up", "1 while the depot can be used; absent without one.", up)
        uses = status.depot_use(state, state.in_depot)
        for name, text in {"files": "Files", "size": "Bytes"}.items():
            by = {use["license"]: use[name] for use in uses}
            metric = f"wakestream_hub_depot_{text.lower()}"
            yield ff.gauges(metric, f"{text} of the license in the depot.", ("license",), by)
        text = "Jobs that go through the depot, by where they are."
        yield ff.gauges("wakestream_hub_depot_jobs", text, ("state",), status.depot_jobs(state))
        moves = {move: self._depot_moves[move] for move in (*_DEPOT_MOVES.values(), "failed")}
        text = "Jobs that made this move; direct: their files go to the worker; failed: their work failed."
        yield ff.counters("wakestream_hub_depot_jobs_total", text, ("move",), moves)
        saved = sum(state.depot_saved.values())
        yield ff.counter("wakestream_hub_depot_saved_seconds_total", "Uploads to it while no GPU was on.", saved)

    def _gpus(self, state: HubState) -> Iterator[Metric]:
        gpus = sorted(state.gpus.values(), key=lambda gpu: gpu.name)
        phases = {(gpu.name, word): is_it for gpu in gpus for word, is_it in ff.one_of(PHASES, gpu.phase).items()}
        text = "1 for the phase that the GPU is in, 0 for the others."
        yield ff.gauges("wakestream_hub_gpu_phase", text, ("gpu", "phase"), phases)
        machines = state.planned.machines if state.planned is not None else {}
        plans = {(name, do): 1 for name, (do, _, _) in machines.items()}
        text = "1 for what the hub plans for the GPU: wake, call_back, stop, held or backed_off."
        yield ff.gauges("wakestream_hub_gpu_planned", text, ("gpu", "do"), plans)
        leases = {gpu.name: len(gpu.leases) for gpu in gpus}
        yield ff.gauges("wakestream_hub_leases", "Jobs that hold the GPU.", ("gpu",), leases)
        now = self._clock()
        ran = {gpu.name: ledger.ran_of(gpu.account, 0.0, now) for gpu in gpus}
        on = {name: seconds for name, (seconds, _) in ran.items()}
        text = "Seconds that the GPU was on, by the hub's ledger."
        yield ff.counters("wakestream_hub_gpu_uptime_seconds_total", text, ("gpu",), on)
        priced = [(gpu, price) for gpu in gpus if (price := state.price_of(gpu.name)) is not None]
        cost = {gpu.name: float(ledger.cost(on[gpu.name] / gpu.account.gpus, price)) for gpu, price in priced}
        text = "What the GPU has cost, in the money of --price-per-hour."
        yield ff.counters("wakestream_hub_gpu_cost_total", text, ("gpu",), cost)
        off = {name: known - seconds for name, (seconds, known) in ran.items()}
        saved = {gpu.name: float(ledger.cost(off[gpu.name] / gpu.account.gpus, price)) for gpu, price in priced}
        text = "What it would have cost more, had it been on since the hub knows it."
        yield ff.counters("wakestream_hub_gpu_saved_total", text, ("gpu",), saved)
        left: dict[tuple[str, str], float] = {
            (purse.gpu, purse.period): float(purse.limit - purse.spent) for purse in budget.purses(state, now)
        }
        text = "What is left of a budget; below 0 when work that had begun cost more. No gpu: all together."
        yield ff.gauges("wakestream_hub_budget_left", text, ("gpu", "period"), left)
