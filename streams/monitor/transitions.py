"""What every decision of the monitor is made of: to change the state, to say so, and to call provider and worker."""

from __future__ import annotations

import math
from random import Random

from msgspec import structs

from wakestream.operators.model.ports import PowerWord
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.power_table import BOOTING, PAID, TABLE, Signal
from wakestream.streams.protocol import messages as m

FEATURE = "power_state"  # of a hub that reads `gpu.power.state` and understands `drain` in `gpu.task.query`
AGE = "power_age"  # of hub and monitor: `age` in `gpu.power.state`
RELEASE = "release"  # of this monitor: it reads `gpu.power.release`
MACHINES = "machines"  # of this monitor: it reads that its machine is started for another GPU in it

LONGEST_GAP = 86_400.0  # seconds between two alarms about one thing, at most
LONGEST_WHY = 1000  # characters of a reason; it may quote a program's output, and has to fit into a frame


class Step:
    """One event while it is handled: `machine` is a copy, which changes, and commands go to `do`."""

    def __init__(
        self, policy: p.PowerPolicy, random: Random, machine: p.Machine, now: float, decision: p.PowerDecision
    ) -> None:
        self.policy, self.random, self.now, self.do = policy, random, now, decision.command
        self.machine = machine = machine.copy()
        self.looks, self.boot, self.worker = machine.looks, machine.boot, machine.worker
        self.use, self.link = machine.use, machine.link

    # --- what follows from the values

    def linked(self) -> bool:
        """Whether there is a connection to the hub."""
        return self.link.features is not None

    def hub_counts(self) -> bool:
        """Whether there is a hub that keeps account of the power, and asks again for those who wait."""
        return FEATURE in (self.link.features or ())

    def decides_alone(self) -> bool:
        """Whether the hub may never say who holds the machine."""
        return self.linked() and not self.hub_counts()

    def checks_health(self) -> bool:
        """Whether the worker can be asked for its health; at a reported address only once it has answered there."""
        return self.policy.checks_health or self.worker.answered

    def shares(self) -> bool:
        """Whether other GPUs are in the machine, so that it may be in use though this one is not."""
        return self.boot.elsewhere_at is not None or bool(self.policy.more)

    def started_elsewhere(self) -> bool:
        """Whether another monitor has started the machine, and that may not show yet."""
        at = self.boot.elsewhere_at
        return at is not None and self.now - at < self.policy.shows_within

    def serves(self) -> bool:
        """Whether the machine serves jobs, as far as is known."""
        return self.machine.state == "online" or (self.machine.state == "booted" and self.worker.served)

    def idle(self) -> bool:
        """Whether the idle time is over."""
        return self.now - self.use.last_at >= self.policy.idle_after

    def why_idle(self) -> str:
        """Why the idle time is over: the hub's reason if it ended it, and no work came since."""
        at, why = self.use.released or (None, "")
        return why if at == self.use.last_at else f"no work for {self.policy.idle_after:g} s"

    def overdue(self, by: float = 0.0) -> bool:
        """Whether the longest allowed uptime, and `by` seconds more, have passed."""
        limit, since = self.policy.max_uptime, self.use.up_since
        return limit is not None and since is not None and self.now - since >= limit + by

    def awaits_the_hub(self) -> bool:
        """Whether the monitor waits for the hub's answer: later, an answer could be out of date."""
        asked_at = self.use.asked_at
        return asked_at is not None and self.now - asked_at < self.policy.query_timeout

    def query_id(self) -> str:
        """The id of the last question to the hub."""
        return f"query-{self.policy.gpu}-{self.use.queries}"

    # --- what is said

    def say(self, message: m.Message) -> None:
        """Send a message to the hub."""
        self.do(p.Say(message))

    def note(self, text: str, *, warning: bool = True) -> None:
        """Write a line to the log."""
        self.do(p.LogNote(text, warning))

    def alarm(self, text: str) -> None:
        """Warn now and then, less and less often: it must not be missed, nor fill the log."""
        machine, gap = self.machine, min(LONGEST_GAP, self.policy.first_alarm * 2.0**self.machine.alarms)
        if self.now >= machine.alarm_at:
            machine.alarm_at, machine.alarms = self.now + gap, machine.alarms + 1
            self.note(text)

    def announce(self, msg: str | None = None, stops_in: int | None = None) -> None:
        """Report the state to a hub that keeps account of it."""
        if not self.hub_counts():
            return
        state, url, since = self.machine.state, self.looks.address, self.machine.on_or_off_since
        follows = url is None and self.policy.expects_address and state in (*BOOTING, "online", "unknown")
        aged = state != "unknown" and AGE in (self.link.features or ())
        said = m.PowerState(
            gpu=self.policy.gpu,
            state=state,
            msg=msg or self.machine.reason,
            stops_in=stops_in,
            orphan=self.link.orphan_unsaid or None,
            url=url,
            url_follows=follows or None,
            retry_in=max(0, math.ceil(round(self.boot.retry_at - self.now, 3))) if state == "no_capacity" else None,
            age=round(self.now - since, 1) if aged and since is not None else None,
        )
        for gpu in self.policy.gpus:
            self.say(structs.replace(said, gpu=gpu))
        self.link.address, self.link.orphan_unsaid = url, False

    def say_outage(self) -> None:
        """Report that a machine which is on was off while the hub was away: that was no use."""
        if self.hub_counts() and AGE in (self.link.features or ()) and self.machine.on and self.link.off_at is not None:
            age = round(self.now - self.link.off_at, 1)
            for gpu in self.policy.gpus:
                self.say(m.PowerState(gpu=gpu, state="off", msg="it was off while the hub was away", age=age))
        self.link.off_at = None

    def say_booted(self) -> None:
        """Answer each boot request by its id, as their senders compare ids."""
        booting = "the machine is up, its worker is not ready yet"
        text = "the GPU is online" if self.machine.state == "online" else booting
        for request_id in self.boot.requests or (self.boot.request_id,):
            self.say(m.Booted(msg=text, request_id=request_id, gpu=self.policy.only))
        if self.linked():
            self.boot.requests = ()

    def fail_boot(self, why: str) -> None:
        """Answer all who wait for the machine; without a hub later."""
        boot = self.boot
        boot.unsaid = m.BootResult(request_id=boot.request_id, status="failed", msg=why, gpu=self.policy.only)
        boot.wanted = False
        if self.linked():
            self.say_failure(boot.unsaid)

    def say_failure(self, result: m.BootResult) -> None:
        """Send the failure to each boot request by its id."""
        ids = dict.fromkeys((*self.boot.requests, result.request_id))
        for request_id in ids:
            if request_id is not None or len(ids) == 1:
                self.say(structs.replace(result, request_id=request_id))
        self.boot.requests, self.boot.unsaid = (), None

    def ask_the_hub(self, *, drain: bool) -> None:
        """Ask whether jobs hold the machine; with `drain`, the hub also gives it no more work."""
        use = self.use
        use.queries, use.asked_at = use.queries + 1, self.now
        query = m.TaskQuery(request_id=self.query_id())
        if self.hub_counts():
            # Whether the worker itself has answered that it has no task, since the idle time was over.
            alone = self.policy.asks_first and not self.shares()
            answers = alone and self.checks_health() and not self.worker.misses
            idle = answers and self.idle() and self.worker.health_at >= use.last_at + self.policy.idle_after
            query = structs.replace(query, gpu=self.policy.only, drain=drain or None, idle=idle or None)
        self.say(query)

    # --- the state

    def want(self) -> None:
        """Keep the wake until the machine is looked at."""
        if not self.boot.wanted:
            self.boot.wanted, self.boot.wanted_at = True, self.now

    def release(self) -> None:
        """End the idle time of a machine that no job needs any more."""
        if self.boot.unwanted is not None:
            self.use.last_at = min(self.use.last_at, self.now - self.policy.idle_after)
            self.use.released, self.boot.unwanted = (self.use.last_at, self.boot.unwanted), None

    def lives(self) -> None:
        """The machine runs, so that the last wake needs no start."""
        self.boot.wanted = self.boot.wanted and not self.serves()

    def used(self) -> None:
        """A job uses the machine: from now on it is treated like one that was started for a job."""
        if self.machine.orphan:
            self.machine.orphan, self.machine.ours, self.boot.since = False, True, self.now

    def at_work(self) -> None:
        """Its worker has a task, so the idle time starts again."""
        self.use.last_at, self.use.remembered = self.now, False
        self.used()
        if self.machine.state == "draining" and not self.overdue():
            self.move(Signal.KEPT, "its worker is at work")

    def move(self, signal: Signal, why: str) -> bool:
        """Change the state as the table says, and do what follows; False if the signal is no news in this state."""
        machine, boot, worker, use = self.machine, self.boot, self.worker, self.use
        origin, target = machine.state, TABLE[machine.state].get(signal)
        if target is None:
            return False
        machine.state, machine.reason = target, why[:LONGEST_WHY]
        use.asked_at, boot.again_at, boot.late = None, None, False
        on = machine.on if target == "unknown" else target in PAID
        if on is not machine.on:  # a machine that was found running may have run before
            seen = self.looks.since if self.looks.read_at == self.now else self.now
            machine.on, machine.on_or_off_since = on, (use.up_since or self.now) if on else seen
        if target == "off" and not self.linked():
            self.link.off_at = machine.on_or_off_since
        if target in ("unknown", "off", "starting", "stopping", "failed"):
            worker.ready = False
        if target == "off":
            machine.ours = machine.orphan = self.link.orphan_unsaid = False
        if target in ("off", "starting"):
            use.up_since, use.active, use.warned, worker.served = None, None, False, False
        if target in ("off", "starting", "booted"):
            worker.gone = False
        if target in ("off", "stopping", "failed"):
            boot.unwanted = None
        if target in ("off", "no_capacity", "booted", "failed"):
            machine.due, boot.start_at = None, None
        if target == "no_capacity":
            boot.retries += 1
            boot.retry_at = self.now + self.policy.capacity.delay(boot.retries, self.random)
        self.note(f"{origin} -> {target}: {machine.reason}", warning=target in ("failed", "no_capacity", "unknown"))
        self.announce()
        _enter(self, origin, signal)
        return True


def _enter(step: Step, origin: PowerWord, signal: Signal) -> None:
    """What follows when the machine enters its state."""
    machine, boot, worker, use = step.machine, step.boot, step.worker, step.use
    match machine.state:
        case "unknown" if boot.wanted:
            step.looks.next_at = step.now
        case "off" if boot.wanted:
            step.move(Signal.GO, "a wake came meanwhile")
        case "starting":
            boot.wanted, boot.tried_at = False, step.now
            if origin != "no_capacity":
                boot.since, boot.retries = step.now, 0
            if signal is not Signal.STARTING:
                machine.due, machine.ours, machine.orphan = "start", True, False
                step.looks.reading, step.looks.shown = None, False
        case "booted":
            _enter_booted(step, origin)
        case "online":
            worker.ready, worker.served, worker.misses, boot.wanted, boot.unsaid = True, True, 0, False, None
            use.last_at, use.remembered = use.last_at if use.remembered else step.now, False
            step.release()
        case "draining" if signal is Signal.IDLE and step.policy.asks_first and step.decides_alone():
            step.move(Signal.FREE, machine.reason)  # such a hub was asked already, and cannot stop giving it work
        case "draining":
            step.ask_the_hub(drain=True)
        case "stopping":
            use.stop_ours, use.stop_tries = signal in (Signal.FREE, Signal.UNUSABLE), 0
            machine.due = "stop" if use.stop_ours else None
        case "failed":
            _enter_failed(step, origin, signal)


def _enter_booted(step: Step, origin: PowerWord) -> None:
    if origin not in BOOTING:  # it ran before, and jobs may hold it already
        step.boot.since, step.worker.served = step.now, True
    step.use.up_since = step.now if step.use.up_since is None else step.use.up_since
    step.boot.wanted, step.worker.misses, step.worker.next_health = False, 0, step.now
    if origin != "online":
        step.say_booted()
    if step.worker.ready:
        step.move(Signal.READY, "the hub saw its worker come online")


def _enter_failed(step: Step, origin: PowerWord, signal: Signal) -> None:
    if origin in BOOTING or step.boot.wanted:
        step.fail_boot(step.machine.reason)
    if signal is Signal.TIMEOUT and origin == "no_capacity" and step.looks.reading == "starting":
        step.move(Signal.UNUSABLE, "calling off the start that the provider has not carried out")
    elif signal is Signal.TIMEOUT and origin == "booted":
        # Switched off, so that the next wake is a cold start. Where jobs may have come to hold it, the hub is asked
        # first, however long that takes: perhaps it is only from here that its worker cannot be reached, and an old hub
        # does not say when one comes online.
        if step.worker.served or step.use.active or step.shares() or not step.hub_counts():
            step.ask_the_hub(drain=False)
        else:
            step.move(Signal.UNUSABLE, "switching off the machine that did not come online")


# --- calls


def issue_calls(step: Step) -> None:
    """Begin the call to the provider that is due, or a look, and the check of the worker's health."""
    machine, looks, boot, worker = step.machine, step.looks, step.boot, step.worker
    call: p.Start | p.Stop | p.Inspect | None = None
    if machine.due is not None and (machine.call is None or isinstance(machine.call, p.Inspect)):
        if machine.due == "start":
            call, boot.start_at, boot.start_taken = p.Start(machine.calls + 1), step.now, False
        else:
            call, step.use.stop_tries = p.Stop(machine.calls + 1), step.use.stop_tries + 1
        # What was read before is no longer true of the machine that now starts or stops.
        machine.due, looks.reading, looks.shown = None, None, False
    elif machine.call is None and machine.due is None and step.now >= looks.next_at:
        call, looks.began_at = p.Inspect(machine.calls + 1), step.now
    if call is not None:
        machine.call, machine.calls = call, call.number
        step.do(call)
    can = machine.state in ("booted", "online") and (step.policy.checks_health or looks.address is not None)
    if can and not worker.checking and step.now >= worker.next_health:
        worker.checking = True
        step.do(p.CheckHealth(looks.address))
