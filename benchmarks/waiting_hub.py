"""The hub's decider with 100,000 waiting jobs of 1,000 connections and 100 GPUs: no step takes longer with the queue.

The yardstick of a submit is one with 1,000 waiting jobs; that of the longest step is 50 ms, after which a loop is late.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any

from timing import row

from wakestream.adapters.runtime.gc_tuning import SERVER, few_collections
from wakestream.streams.hub import events as f
from wakestream.streams.hub.hub import DECIDER, HubState, Limits
from wakestream.streams.protocol import messages as m

JOBS, CLIENTS, LICENSES, GPUS = 100_000, 1000, 50, 100
LATE = 0.050
"""Seconds."""


class Hub:
    """The decider, its clock, and the seconds of the processor that each kind of step took."""

    def __init__(self) -> None:
        self.state = HubState(Limits(jobs_per_key=JOBS))
        self.now = 1_000_000.0
        self.took: dict[str, list[float]] = {}
        self.fd = 0

    def happen(self, what: str, event: f.Event) -> None:
        """Decide on one event."""
        began = time.process_time()
        DECIDER.step(self.state, event, self.now)
        self.took.setdefault(what, []).append(time.process_time() - began)

    def say(self, what: str, fd: int, message: m.Message) -> None:
        """A message comes."""
        self.happen(what, f.Received(fd, message))

    def tick(self, what: str = "tick", seconds: float = 1.0) -> None:
        """Time passes."""
        self.now += seconds
        self.happen(what, f.Tick())

    def join(self, role: str, owner: str, **more: Any) -> int:
        """A peer connects."""
        self.fd += 1
        self.happen("connect", f.Opened(self.fd))
        roles = {"monitor": "gpu_monitor", "worker": "worker"}
        register = m.Register(key=owner if role == "client" else None, role=roles.get(role), **more)
        self.happen("register", f.Registering(self.fd, register, owner, f.License(owner, role)))
        return self.fd


def main() -> bool:
    """Print the ratios; True if the budgets hold."""
    gc.collect()
    with few_collections(*SERVER):  # as the hub runs
        return measured(Hub())


def measured(hub: Hub) -> bool:
    """The same for this hub."""
    monitors = [hub.join("monitor", "m", gpus=(f"g{n:03}",), features=("power_state", "release")) for n in range(GPUS)]
    for number, fd in enumerate(monitors):
        hub.say("power", fd, m.PowerState(gpu=f"g{number:03}", state="off"))
    clients = [hub.join("client", f"o{n % LICENSES}", features=("queue", "done")) for n in range(CLIENTS)]

    def submit(first: int, last: int, what: str) -> None:
        for number in range(first, last):
            hub.say(what, clients[number % CLIENTS], m.Submit(request_id=f"j{number}", payload={}))

    submit(0, 1000, "submit to an empty queue")
    submit(1000, 2000, "submit at 1,000")
    submit(2000, JOBS - 1000, "submit")
    submit(JOBS - 1000, JOBS, "submit at 100,000")
    for _ in range(20):
        hub.tick()
    worker = hub.join("worker", "w", gpu="g000", url="http://w:1", features=("range",))
    hub.say("online", worker, m.Online())
    for _ in range(20):
        hub.tick()
    for _ in range(100):
        id_ = next(iter(hub.state.gpus["g000"].leases))
        hub.say("done, and the next one granted", hub.state.jobs[id_].fd or 0, m.JobDone(request_id=id_))
    hub.say("status", clients[0], m.HubStatusQuery(request_id="s"))
    for number, fd in enumerate(monitors[1:], 1):
        hub.say("failed boot", fd, m.BootResult(success=False, status="failed", gpu=f"g{number:03}", msg="no power"))
    hub.happen("worker gone", f.Closed(worker))
    hub.say("failed boot", monitors[0], m.BootResult(success=False, status="failed", gpu="g000", msg="no power"))
    for _ in range(5):
        hub.tick("tick after the failed boots")
    hub.happen("client gone", f.Closed(clients[1]))
    hub.tick("expiry", 2101.0)
    began = time.process_time()
    rows = DECIDER.snapshot(hub.state)
    next(rows)
    hub.took["cut of the journal, until its rows are made in a thread"] = [time.process_time() - began]
    for what, times in sorted(hub.took.items(), key=lambda taken: -max(taken[1])):
        print(f"        {what}: median {statistics.median(times) * 1e3:.2f} ms, longest {max(times) * 1e3:.1f} ms")
    before, after = (statistics.median(hub.took[f"submit at {count}"]) for count in ("1,000", "100,000"))
    held = [row("a submit with 100,000 waiting jobs, against 1,000", after, before, 1.2)]
    held.append(row("the longest step of the hub, against 50 ms", max(map(max, hub.took.values())), LATE, 1.0))
    return all(held)
