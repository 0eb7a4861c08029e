"""A hub in memory of which each step is checked: what must hold whatever its peers send."""

from collections import Counter
from itertools import chain
from typing import Any

from msgspec import structs

from tests.support.streams.hub_net import Store, restarted
from wakestream.streams.hub import costs, hub, placement
from wakestream.streams.hub import events as f
from wakestream.streams.hub.needs import Need, need_of
from wakestream.streams.hub.state import ALL, Connection, Gpu, HubJob
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

BOSS = Connection(0, 0.0, admin=True)
ANSWERS: dict[type[m.Message], set[str]] = {
    m.Submit: {m.Ack.TYPE, m.Offline.TYPE, m.JobQueued.TYPE, m.Error.TYPE, d.DepotDelivered.TYPE, d.DepotStored.TYPE},
    m.GpuAdmin: {m.GpuAdminDone.TYPE, m.Error.TYPE},
    m.Cancel: {m.JobReleased.TYPE, m.Error.TYPE},
    m.JobDone: {m.JobReleased.TYPE},
}


class Before:
    """What was true before an event."""

    def __init__(self, state: hub.HubState, now: float) -> None:
        self.jobs, self.blocked, self.gone = dict(state.jobs), state.blocked, ""
        self.wakers, self.wanted = {*state.may_wake()}, {*state.wanted}
        self.asleep = {gpu.name for gpu in state.gpus.values() if now - gpu.woken < 30.0 and gpu.phase == "off"}


class Checked(Store):
    """`rogue` is a license whose peers must change nothing of the GPUs of others.

    `given` are the jobs that each GPU's worker ever had to fetch from the depot, `late` the seconds by which machines
    were said to be off too late for jobs that had ended, `unsure` the GPUs that were forgotten, or whose worker may lie
    about its work.
    """

    def __init__(self, now: float, rogue: str, **limits: Any) -> None:
        self.rogue = rogue
        self.given: dict[str, dict[str, None]] = {}
        self.ended: set[str] = set()
        self.unsure: set[str] = set()
        self.monitored: set[str] = set()
        self.late = 0.0
        super().__init__(**limits)
        self.now = now

    def decide(self, event: f.Event) -> tuple[list[f.Fact], list[f.Command]]:
        state, before = self.state, Before(self.state, self.now)
        sender = state.connections.get(event.fd) if isinstance(event, f.Received) else None
        speaks = sender.owner if sender is not None else None
        if isinstance(event, f.Registering) and event.license is not None:
            speaks = event.license.id
        others = self.of_others(speaks)
        facts, commands = super().decide(event)
        self.monitored = state.named().union(() if isinstance(event, f.ProcessStarted) else self.monitored)
        sent = [command for command in commands if isinstance(command, f.Send | f.Broadcast)]
        for fact in facts:
            if isinstance(fact, f.JobRemoved) and fact.id in before.jobs:
                assert self.well_ended(before.jobs[fact.id], event, fact, facts, sent), (event, fact)
            self.check_fact(fact, before)
            assert not isinstance(fact, f.PowerNews) or f.Notify(fact) in commands
        self.check_jobs(before, facts)
        woken = {fd for command in sent if isinstance(command.message, m.Boot) for fd in addressees(command)}
        assert woken <= before.wakers | {*state.may_wake()}, "a boot beyond a budget"
        for command in sent:
            self.check_sent(command)
        if sender is not None and isinstance(event, f.Received):
            self.check_answer(sender, event.message, sent)
        assert others == self.of_others(speaks), "a license changed a GPU of another one"
        if isinstance(event, f.ProcessStarted) and self.limits.webhook:
            assert [command.news for command in commands if isinstance(command, f.Notify)] == [*state.news.values()]
        if isinstance(event, f.Registering):
            self.check_greeted(state.connections.get(event.fd), before, sent)
        if isinstance(event, f.Tick):
            self.check_lost()
        self.check_state()
        return facts, commands

    def check_fact(self, fact: f.Fact, before: "Before") -> None:
        """Check that no job is done twice, and that money and people are obeyed."""
        match fact:
            case f.JobQueued(id_):
                if id_ not in before.jobs:
                    self.ended.discard(id_)
                if (job := self.state.jobs.get(id_)) is not None:  # it may wait, wake and be granted in one step
                    before.wanted.add(job.need)
            case f.JobDelivered(id_):
                assert id_ not in self.ended, "a job was done twice"
                self.ended.add(id_)
            case f.GpusBlocked():
                before.blocked = fact.until
            case f.JobGranted():
                assert not {ALL, fact.gpu} & before.blocked.keys(), "a grant beyond a budget"
                assert not self.state.gpus[fact.gpu].suspended, "a grant to a GPU that is held"
            case f.GpuWoken():
                assert fact.gpu not in before.asleep, "a machine is woken twice"
                assert not self.state.gpus[fact.gpu].suspended, "a machine is woken that is held"
                needs = before.wanted | {*self.state.wanted}
                assert any(not need.gpus or fact.gpu in need.gpus for need in needs), "a machine is woken for none"
            case f.LicenseGone(license_):
                before.gone = license_
            case f.GpuPhase(switched=float(at)):
                self.late += self.now - at
            case f.GpuForgotten() | f.JobWorked():
                self.monitored -= {fact.gpu} if isinstance(fact, f.GpuForgotten) else set()
                if isinstance(fact, f.GpuForgotten) or fact.seconds > 0:
                    self.unsure.add(fact.gpu)

    def check_jobs(self, before: "Before", facts: list[f.Fact]) -> None:
        """Check that no job is lost, and that none is given to a GPU that has enough, or before its files are there."""
        jobs, gpus = self.state.jobs, self.state.gpus
        assert before.gone not in self.state.jobs_of, "a job of a revoked license stays"
        removed = {fact.id for fact in facts if isinstance(fact, f.JobRemoved)}
        assert before.jobs.keys() - jobs.keys() == removed & before.jobs.keys(), "a job is lost"
        granted = {fact.id: fact.gpu for fact in facts if isinstance(fact, f.JobGranted)}
        assert granted.items() <= {job.id: job.gpu for job in jobs.values()}.items()
        assert all(gpu in (jobs[id_].need.gpus or (gpu,)) for id_, gpu in granted.items()), "not the GPU that it names"
        for gpu in [gpus[name] for name in {gpu for id_, gpu in granted.items() if jobs[id_].late}]:
            late = sum(jobs[id_].late for id_ in gpu.leases)
            assert late <= gpu.slots + self.limits.place.ahead, "a GPU has more than it may have"
        storing = {job.id for job in before.jobs.values() if job.depot is not None and not job.stored}
        now_stored = {fact.id for fact in facts if isinstance(fact, f.JobStored | f.JobDirect)}
        assert not granted.keys() & storing - now_stored, "a job was granted while its files were stored"

    def check_greeted(self, peer: Connection | None, before: "Before", sent: list[f.Send | f.Broadcast]) -> None:
        """Check that a new monitor is asked for the machine that was woken a moment ago, and that a job still needs."""
        if peer is None or peer.role != "monitor":
            return
        state = self.state
        needs = [state.need_of(state.jobs[id_]) for line in state.lines.values() for id_ in line]
        woken = [state.gpus[name] for name in peer.gpus if name in before.asleep]
        asked = any(peer.fd in addressees(each) for each in sent if isinstance(each.message, m.Boot | m.Submit))
        assert asked or not any(self.may(gpu, needs) for gpu in woken), "a new monitor does not know of a wake"

    def check_lost(self) -> None:
        """Check that a GPU that is off, or whose worker is away for long, holds no job that its client does not see.

        And that none is held for a client that is gone, when the worker says that nothing is left to do.
        """
        for id_, (word, at) in self.state.seen.items():
            job, waits = self.state.jobs[id_], 60.0 if word == "unknown" else 10.0
            if word != "open" and job.gone is not None and not job.stored:
                assert self.now - max(job.gone, at) <= waits, "a GPU is held for a client that is gone"
        for gpu in self.state.gpus.values():
            held = [self.state.jobs[id_] for id_ in gpu.leases] if gpu.worker is None else []
            if gpu.phase == "off" and self.now - gpu.since >= 90.0:
                assert not held, "a job at a machine that is off"
            if gpu.phase not in ("off", "unknown") and self.now - gpu.away >= 600.0:
                assert all(job.fd is not None and not gpu.fetches(job) for job in held), "a job at a lost GPU"

    def of_others(self, owner: str | None) -> dict[str, Any]:
        """The GPUs of others than the rogue, and who holds them, if that is who speaks."""
        if owner != self.rogue:
            return {}
        of = {name for (_, name), (holder, _) in self.state.holders.items() if holder != self.rogue}
        gpus = {name: gpu for name, gpu in self.state.gpus.items() if name in of and self.is_whole(gpu)}
        return {
            name: (gpu.phase, gpu.url, gpu.worker, gpu.unwatched, gpu.orphan, {*gpu.leases})
            for name, gpu in gpus.items()
        }

    def is_whole(self, gpu: Gpu) -> bool:
        """Whether both its worker and its monitor are of others."""
        holders = self.state.holders
        return all(holders.get((role, gpu.name), (self.rogue, 0.0))[0] != self.rogue for role in ("worker", "monitor"))

    def well_ended(
        self, job: HubJob, event: f.Event, fact: f.JobRemoved, facts: list[f.Fact], sent: list[f.Send | f.Broadcast]
    ) -> bool:
        """Whether the job's client knows that it ended, or ended it, or is gone."""
        told = {each.message.TYPE for each in sent if getattr(each.message, "request_id", None) == job.id}
        if job.gpu is not None and fact.why not in ("revoked", "cancelled", "done"):
            assert not (self.state.gpus[job.gpu].fetches(job) and fact.why in ("result", "boot_failed")), "it is ours"
        match fact.why:
            case "boot_failed":
                return m.BootResult.TYPE in told
            case "result":
                kept = (each.result.request_id for each in facts if isinstance(each, f.ResultKept))
                return m.Result.TYPE in told or job.id in kept
            case "unsupported" | "unknown_kind" | "unmet":
                message = event.message if isinstance(event, f.Received) else None
                asked = message if isinstance(message, m.Submit) and message.request_id == job.id else job.submit
                return m.Error.TYPE in told and not self.may_be_done(need_of(asked.task_type, asked.payload))
            case "delivered":
                return isinstance(event, f.Received | f.DepotAnswered)
            case "finished":
                return job.gone is not None
            case "cancelled" | "done":
                return isinstance(event, f.Received)
            case "expired":
                return m.Error.TYPE in told or not self.state.of_owner(job.owner) or job.gpu is not None
            case why:
                return why == "revoked" and isinstance(event, f.Revoked)

    def may_be_done(self, need: Need) -> bool:
        """Whether a GPU may do such a job that has a monitor, perhaps away, and has not said what it can do."""
        unknown = (gpu for gpu in self.state.gpus.values() if gpu.name in self.monitored and gpu.kinds is None)
        return any(
            placement.can(self.state, gpu, need._replace(depot="")) and not placement.pairs_only(self.state, gpu)
            for gpu in unknown
        )

    def check_sent(self, command: f.Send | f.Broadcast) -> None:
        """Check that keys and capabilities in a message are for who gets it, and that a worker's job is its own."""
        message = command.message
        for fd in addressees(command):
            peer = self.state.connections.get(fd)
            if peer is None:
                continue
            capable, text = "capability" in peer.features, wire.encode(message)
            seal = command.seal if isinstance(command, f.Send) else None
            if isinstance(seal, f.Links):
                gpu = self.state.gpus.get(peer.gpu or "")
                served = gpu.served if peer.role == "worker" and gpu is not None else (peer.owner,)
                assert seal.owner in served, "links of another license"
            elif seal is not None:
                assert capable
            assert capable or "capability" not in text
            assert not (capable and peer.role == "worker" and '"key":"k' in text), "a worker gets a key"
            if peer.role == "worker" and isinstance(message, d.DepotFetch):
                self.given.setdefault(peer.gpu or "", {})[message.request_id] = None
                assert self.state.jobs[message.request_id].gpu == peer.gpu
            if peer.role == "worker" and isinstance(message, m.DispatchBatch):
                assert all(self.state.jobs[job["request_id"]].gpu == peer.gpu for job in message.jobs)

    def check_answer(self, sender: Connection, message: m.Message, sent: list[f.Send | f.Broadcast]) -> None:
        """Check that what a client asks has an answer: of a submit one, and of a stored job also where it is.

        A result is sent only to licenses that the worker had jobs of, or whose key it knows.
        """
        if isinstance(message, m.Result) and message.key is None:
            gpu = self.state.gpus.get(sender.gpu or "")
            to = [fd for command in sent if isinstance(command.message, m.Result) for fd in addressees(command)]
            owners = {self.state.connections[fd].owner for fd in to}
            assert owners <= {*(gpu.served if gpu is not None else ())}, "a result of a worker that had no job"
        answers = [each.message for each in sent if isinstance(each, f.Send) and each.fd == sender.fd]
        if isinstance(message, m.TaskQuery) and any(
            isinstance(each, m.TaskQueryResponse) and each.active_count == 0 for each in answers
        ):
            names = (message.gpu,) if message.gpu is not None else sender.gpus
            gpus = [gpu for gpu in self.state.gpus.values() if gpu.name in names]
            assert not any(gpu.leases for gpu in gpus), "a machine may stop although a job holds it"
        about = getattr(message, "request_id", None)  # it may have led to news of another job
        types = [each.TYPE for each in answers if getattr(each, "request_id", None) == about]
        self.check_reply(sender, message, types)

    def check_reply(self, sender: Connection, message: m.Message, answers: list[str]) -> None:
        usual = ANSWERS.get(type(message), set()) if sender.role == "client" else set()
        if m.JobReleased.TYPE in usual and "released" not in sender.features:
            return
        assert not usual or usual & {*answers}, (message, answers)
        if usual and isinstance(message, m.Submit):
            if answers[0] == d.DepotStored.TYPE:
                answers = answers[1:] if answers[1] != d.DepotProgress.TYPE else [m.Ack.TYPE]
            turn = [m.JobQueued.TYPE, m.Ack.TYPE]  # its turn may come when jobs before it have been answered
            assert len(answers) == 1 or answers == turn, (message, answers)

    def check_state(self) -> None:
        """Check that queue, leases, lines and jobs tell the same story, and that no GPU has more than it may have."""
        state, all_ = self.state, self.state.jobs.values()
        waiting = {job.id for job in all_ if job.gpu is None}
        held = {job.id: job.gpu for job in all_ if job.gpu is not None}
        assert waiting == {*state.queue}
        assert [state.jobs[id_].seq for id_ in state.queue] == state.arrivals
        assert held == {id_: gpu.name for gpu in state.gpus.values() for id_ in gpu.leases}
        assert all(job.fd is None or job.fd in state.connections for job in all_)
        assert {id_ for id_ in waiting if (job := state.jobs[id_]).gone is not None and not job.stored} == {
            *state.absent
        }
        gone = [state.jobs[id_].gone or 0.0 for id_ in state.absent]
        assert gone == sorted(gone), "one that is away for longer expires later"
        assert {job.id for job in all_ if job.stored} == {*state.stored}
        assert state.wanted == state.count_wanted()
        assert {*chain(*state.jobs_of.values())} == {*state.jobs}
        assert {*chain(*state.delivered_of.values())} == {*state.delivered}
        assert {*state.capabilities} <= {*state.jobs}
        storing = {job.id for job in all_ if job.depot is not None and not job.stored}
        assert {*state.uploads} <= storing, "an upload of a job that is not stored"
        late = [job for job in all_ if job.late]
        lined = {id_ for line in state.lines.values() for id_ in line}
        here = {job.id for job in late if job.gpu is None and (job.stored or job.fd in state.connections)}
        assert lined == here
        assert all(state.jobs[id_].shape == shape for shape, line in state.lines.items() for id_ in line)
        assert {*state.early} == {job.id for job in all_ if job.gpu is None and not job.late}
        ready = [state.need_of(state.jobs[id_]) for id_ in lined if self.can_start(state.jobs[id_])]
        for gpu in state.gpus.values():
            if gpu.online and gpu.ready and len(gpu.leases) < gpu.slots:
                assert not self.may(gpu, ready), f"{gpu.name} could do a job that waits"

    def can_start(self, job: HubJob) -> bool:
        """Whether this job can be given to a GPU; one that waits for our own depot is, a second after that is back."""
        return job.depot is None or (job.stored and (self.state.limits.depot or not job.need.depot))

    def may(self, gpu: Gpu, needs: list[Need]) -> bool:
        return any(placement.may(self.state, gpu, need) for need in needs)

    def check_money(self) -> None:
        """Check that what jobs used is not more than their machines ran, and that it is the same after a snapshot."""
        state, now = self.state, self.now
        kept = hub.DECIDER.restore(hub.DECIDER.snapshot(state), hub.HubState(state.limits))
        assert (kept.usage, kept.reached, kept.news) == (state.usage, state.reached, state.news)
        assert used(kept, now) == used(state, now)
        for gpu in [gpu for gpu in state.gpus.values() if gpu.name not in self.unsure]:
            ran = gpu.account.ran(0.0, now, state.limits.zone)
            assert used(state, now).get(gpu.name, 0.0) <= ran + self.late + 0.001, (
                f"{gpu.name} was used more than it ran"
            )
        assert costs.of(state, BOSS, now, None, 40_000)["unused"]["used_s"] >= 0

    def writes_a_snapshot(self) -> None:
        """A snapshot takes the place of the journal: it must say what that says."""
        self.rows, self.journal = restarted(self.state, self.rows, self.journal, self.now)[1], []

    def restart(self) -> None:
        before = {id_: job.gpu for id_, job in self.state.jobs.items()}, self.state.holders, {*self.state.delivered}
        super().restart()
        jobs = {id_: job.gpu for id_, job in self.state.jobs.items()}
        assert (jobs, self.state.holders, {*self.state.delivered}) == before

    def set_clock(self, by: float) -> None:
        self.now += by
        self.happen(f.ClockMoved(by))

    def answer(self) -> None:
        fault, self.fault = self.fault, self.fault if self.state.depot_up else "down"
        super().answer()
        self.fault = fault


class Shifted(Checked):
    """Beside it is one whose clock is set, and which must decide the same, but for times."""

    def __init__(self, now: float, rogue: str, **limits: Any) -> None:
        self.twin, self.offset, self.by = hub.HubState(hub.Limits(**{"depot": True, **limits})), 0.0, 0.0
        super().__init__(now, rogue, **limits)

    def set_clock(self, by: float) -> None:
        self.offset, self.by = self.offset + by, by
        self.happen(f.ClockMoved(0.0))  # an event is a time to look at all

    def decide(self, event: f.Event) -> tuple[list[f.Fact], list[f.Command]]:
        now = self.now + self.offset
        if isinstance(event, f.ProcessStarted):
            self.twin = hub.DECIDER.restore(hub.DECIDER.snapshot(self.twin), hub.HubState(self.limits))
            hub.DECIDER.evolve(self.twin, f.HubStarted(now))
        later = f.ClockMoved(self.by) if isinstance(event, f.ClockMoved) else event
        if isinstance(event, f.BookSeen):  # it has times of the wall clock
            later = structs.replace(event, released=tuple((key, at + self.offset) for key, at in event.released))
        facts, commands = super().decide(event)
        twins = hub.DECIDER.step(self.twin, later, now).commands
        assert said(twins) == said(commands), "another decision, since the clock was set"
        return facts, commands


def said(commands: list[f.Command]) -> list[tuple[tuple[int, ...], str, object]]:
    """What is sent to whom, without the times in it. New capabilities follow a change of the clock."""
    sent = [command for command in commands if isinstance(command, f.Send | f.Broadcast)]
    sent = [command for command in sent if not isinstance(command.message, m.Capability)]
    return [(addressees(each), each.message.TYPE, getattr(each.message, "request_id", None)) for each in sent]


def addressees(command: f.Send | f.Broadcast) -> tuple[int, ...]:
    return (command.fd,) if isinstance(command, f.Send) else command.to


def used(state: hub.HubState, now: float) -> dict[str, float]:
    """Seconds of each GPU that ended and open jobs used."""
    months = chain.from_iterable(of.values() for of in state.usage.months.values())
    found = Counter[str]()
    for seconds in (*months, *(state.used_by(job, now) for job in state.jobs.values())):
        for gpu, sum_ in seconds.items():
            found[gpu] += sum_  # type: ignore[assignment] # a counter of seconds
    return dict(found)
